"""HTTP to where tenants say: bounded in time and size, and never to a private address they were not allowed."""
