"""OpenAI's protocols, Chat Completions and Responses, and the many providers that speak them."""
