//! HTTP/1 and HTTP/2, servers and clients, with one body type.
