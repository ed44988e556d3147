"""Documents from upload to answer: what they are, how their text is read, cut and embedded, and how it is found again."""
