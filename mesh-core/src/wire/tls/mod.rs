//! Mesh TLS: credentials, servers, clients.
