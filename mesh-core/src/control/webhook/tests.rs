//! Reviews over the network, as an API server sends them.
