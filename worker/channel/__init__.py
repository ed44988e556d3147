"""How news travels: small events published on Redis after the commit that they report, and followed by many."""
