//! The control plane: an index of the cluster, and what it compiles of it for proxies.
