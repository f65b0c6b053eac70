//! Which of a proxy's families are kept: those that questions are about.

/// Sorted, as they stand in the text.
pub const FAMILIES: [&str; 34] = [
    "control_identity_cert_expiration_timestamp_seconds",
    "control_identity_cert_refresh_timestamp_seconds",
    "inbound_grpc_statuses_total",
    "inbound_http_authz_allow_total",
    "inbound_http_authz_deny_total",
    "inbound_http_errors_total",
    "inbound_http_local_ratelimit_total",
    "inbound_http_route_not_found_total",
    "inbound_http_statuses_total",
    "inbound_tcp_authz_allow_total",
    "inbound_tcp_authz_deny_total",
    "inbound_tcp_authz_terminate_total",
    "outbound_grpc_route_backend_response_duration_seconds_bucket",
    "outbound_grpc_route_backend_response_statuses_total",
    "outbound_grpc_route_request_duration_seconds_bucket",
    "outbound_grpc_route_request_statuses_total",
    "outbound_grpc_route_retry_requests_total",
    "outbound_http_errors_total",
    "outbound_http_route_backend_response_duration_seconds_bucket",
    "outbound_http_route_backend_response_statuses_total",
    "outbound_http_route_request_duration_seconds_bucket",
    "outbound_http_route_request_statuses_total",
    "outbound_http_route_retry_requests_total",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "proxy_build_info",
    "request_total",
    "response_latency_ms_bucket",
    "response_total",
    "tcp_open_connections",
    "tcp_open_total",
    "tcp_read_bytes_total",
    "tcp_write_bytes_total",
];

/// Whether a sample of this name is kept.
pub fn is_kept(name: &str) -> bool {
    FAMILIES.binary_search(&name).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_can_be_searched() {
        assert!(FAMILIES.is_sorted());
    }
}
