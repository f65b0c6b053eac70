//! The policy API: linkerd2-proxy-api messages to and from the model, its clients and servers.
