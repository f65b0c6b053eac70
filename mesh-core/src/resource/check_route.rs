//! What a schema cannot say of routes and profiles.

use super::check::{Faults, check_port, is_name};
use super::duration;
use super::profile::{RequestMatchSpec, ServiceProfileSpec};
use super::route::{
    GrpcMethodMatch, HeaderFilter, ParentRef, Route, RouteBackendRef, RouteFilter, RouteSpec,
    ValueMatch, ValueMatchType,
};
use super::route::{HttpRouteMatch, PathMatchType};

const REGEX: &str = "use a regular expression without look-around";
const HEADER: &str = "use a header's name: letters, digits and '-'";
const DURATION: &str = "use a duration such as 10s or 1m30s";

pub(super) fn check_route(route: &Route<'_>, faults: &mut Faults) {
    for (index, parent) in route.parent_refs().iter().enumerate() {
        check_parent(&format!("spec.parentRefs[{index}]"), parent, faults);
    }
    for (index, host) in route.hostnames().iter().enumerate() {
        let name = host.strip_prefix("*.").unwrap_or(host);
        let field = format!("spec.hostnames[{index}]");
        faults.require(is_name(name), &field, host, "use a name, or *. and a name");
    }
    match route.spec {
        RouteSpec::Http(spec) => {
            for (index, rule) in spec.rules.iter().flatten().enumerate() {
                let field = format!("spec.rules[{index}]");
                for (index, wanted) in rule.matches.iter().flatten().enumerate() {
                    check_http_match(&format!("{field}.matches[{index}]"), wanted, faults);
                }
                check_rule(&field, rule.filters.as_deref(), rule.backend_refs.as_deref(), faults);
                let timeouts = rule.timeouts.as_ref();
                let request = timeouts.and_then(|timeouts| timeouts.request.as_ref());
                let backend = timeouts.and_then(|timeouts| timeouts.backend_request.as_ref());
                for (name, text) in [("request", request), ("backendRequest", backend)] {
                    if let Some(text) = text {
                        let field = format!("{field}.timeouts.{name}");
                        faults.require(duration::parse(text).is_some(), &field, text, DURATION);
                    }
                }
                let parse = |text: Option<&String>| text.and_then(|text| duration::parse(text));
                if let (Some(request), Some(backend)) = (parse(request), parse(backend))
                    && backend > request
                    && !request.is_zero()
                {
                    let field = format!("{field}.timeouts.backendRequest");
                    faults.add(field, "is longer than the request may take", "use less");
                }
            }
        }
        RouteSpec::Grpc(spec) => {
            for (index, rule) in spec.rules.iter().flatten().enumerate() {
                let field = format!("spec.rules[{index}]");
                for (index, wanted) in rule.matches.iter().flatten().enumerate() {
                    let field = format!("{field}.matches[{index}]");
                    check_values(&format!("{field}.headers"), wanted.headers.as_deref(), faults);
                    let is_said =
                        |text: &Option<String>| text.as_ref().is_some_and(|t| !t.is_empty());
                    let says = |method: &GrpcMethodMatch| {
                        is_said(&method.method) || is_said(&method.service)
                    };
                    if !wanted.method.as_ref().is_none_or(says) {
                        let remedy = "name a service, a method or both";
                        faults.add(format!("{field}.method"), "matches nothing", remedy);
                    }
                    let kind = wanted.method.as_ref().and_then(|method| method.type_);
                    if kind == Some(ValueMatchType::RegularExpression) {
                        let fault = "RegularExpression is not supported for gRPC methods";
                        faults.add(format!("{field}.method.type"), fault, "use Exact");
                    }
                }
                check_rule(&field, rule.filters.as_deref(), rule.backend_refs.as_deref(), faults);
            }
        }
    }
}

fn check_parent(field: &str, parent: &ParentRef, faults: &mut Faults) {
    if let Some(port) = parent.port {
        check_port(&format!("{field}.port"), i32::from(port), faults);
    }
    let name = format!("{field}.name");
    faults.require(is_name(&parent.name), &name, &parent.name, "use the object's name");
}

fn check_http_match(field: &str, wanted: &HttpRouteMatch, faults: &mut Faults) {
    if let Some(path) = &wanted.path {
        let value = path.value.as_deref().unwrap_or("/");
        let field = format!("{field}.path.value");
        match path.type_.unwrap_or_default() {
            PathMatchType::RegularExpression => check_regex(&field, value, faults),
            PathMatchType::Exact | PathMatchType::PathPrefix => {
                faults.require(value.starts_with('/'), &field, value, "begin it with /")
            }
        }
    }
    if let Some(method) = &wanted.method {
        let good = http::Method::from_bytes(method.as_bytes()).is_ok();
        faults.require(good, &format!("{field}.method"), method, "use a method such as GET");
    }
    check_values(&format!("{field}.headers"), wanted.headers.as_deref(), faults);
    for (index, wanted) in wanted.query_params.iter().flatten().enumerate() {
        if wanted.type_ == Some(ValueMatchType::RegularExpression) {
            check_regex(&format!("{field}.queryParams[{index}].value"), &wanted.value, faults);
        }
    }
}

fn check_values(field: &str, wanted: Option<&[ValueMatch]>, faults: &mut Faults) {
    for (index, wanted) in wanted.unwrap_or_default().iter().enumerate() {
        let field = format!("{field}[{index}]");
        check_header_name(&format!("{field}.name"), &wanted.name, faults);
        if wanted.type_ == Some(ValueMatchType::RegularExpression) {
            check_regex(&format!("{field}.value"), &wanted.value, faults);
        }
    }
}

fn check_rule(
    field: &str,
    filters: Option<&[RouteFilter]>,
    backends: Option<&[RouteBackendRef]>,
    faults: &mut Faults,
) {
    check_filters(field, filters, faults);
    for (index, backend) in backends.unwrap_or_default().iter().enumerate() {
        let field = format!("{field}.backendRefs[{index}]");
        check_filters(&field, backend.filters.as_deref(), faults);
        if let Some(port) = backend.port {
            check_port(&format!("{field}.port"), i32::from(port), faults);
        }
    }
}

fn check_filters(field: &str, filters: Option<&[RouteFilter]>, faults: &mut Faults) {
    for (index, filter) in filters.unwrap_or_default().iter().enumerate() {
        let field = format!("{field}.filters[{index}]");
        let modifiers = [
            ("requestHeaderModifier", &filter.request_header_modifier),
            ("responseHeaderModifier", &filter.response_header_modifier),
        ];
        for (name, modifier) in modifiers {
            if let Some(modifier) = modifier {
                check_modifier(&format!("{field}.{name}"), modifier, faults);
            }
        }
        let redirect = filter.request_redirect.as_ref();
        let path = redirect.and_then(|redirect| redirect.path.as_ref());
        let whole = path.and_then(|path| path.replace_full_path.as_ref());
        if let Some(path) = whole {
            let field = format!("{field}.requestRedirect.path.replaceFullPath");
            faults.require(path.starts_with('/'), &field, path, "begin it with /");
        }
        if let Some(status) = redirect.and_then(|redirect| redirect.status_code) {
            let field = format!("{field}.requestRedirect.statusCode");
            let good = (300..400).contains(&status);
            faults.require(good, &field, &status.to_string(), "use a status such as 302");
        }
    }
}

fn check_modifier(field: &str, modifier: &HeaderFilter, faults: &mut Faults) {
    for (part, headers) in [("set", &modifier.set), ("add", &modifier.add)] {
        for (index, header) in headers.iter().flatten().enumerate() {
            let field = format!("{field}.{part}[{index}]");
            check_header_name(&format!("{field}.name"), &header.name, faults);
            let good = http::HeaderValue::from_str(&header.value).is_ok();
            let remedy = "use printable ASCII characters";
            faults.require(good, &format!("{field}.value"), &header.value, remedy);
        }
    }
    for (index, name) in modifier.remove.iter().flatten().enumerate() {
        check_header_name(&format!("{field}.remove[{index}]"), name, faults);
    }
}

fn check_header_name(field: &str, name: &str, faults: &mut Faults) {
    let good = http::HeaderName::from_bytes(name.as_bytes()).is_ok();
    faults.require(good, field, name, HEADER);
}

fn check_regex(field: &str, regex: &str, faults: &mut Faults) {
    faults.require(regex_lite::Regex::new(regex).is_ok(), field, regex, REGEX);
}

pub(super) fn check_profile(name: &str, spec: &ServiceProfileSpec, faults: &mut Faults) {
    const WHOLE: &str = "use the whole name that clients use, such as web.shop.svc.cluster.local";
    faults.require(name.contains('.'), "metadata.name", name, WHOLE);
    for (index, route) in spec.routes.iter().enumerate() {
        let field = format!("spec.routes[{index}]");
        check_condition(&format!("{field}.condition"), &route.condition, faults);
        if let Some(timeout) = &route.timeout {
            let good = duration::parse(timeout).is_some();
            faults.require(good, &format!("{field}.timeout"), timeout, DURATION);
        }
    }
    if let Some(budget) = &spec.retry_budget {
        let good = budget.retry_ratio.is_finite() && budget.retry_ratio >= 0.0;
        let ratio = budget.retry_ratio.to_string();
        faults.require(good, "spec.retryBudget.retryRatio", &ratio, "use a share such as 0.2");
        let good = duration::parse(&budget.ttl).is_some();
        faults.require(good, "spec.retryBudget.ttl", &budget.ttl, DURATION);
    }
    for (index, destination) in spec.dst_overrides.iter().flatten().enumerate() {
        let weight = format!("spec.dstOverrides[{index}].weight");
        let good = destination.weight_thousandths().is_some();
        faults.require(good, &weight, &format!("{:?}", destination.weight), "use a number");
        let host = destination.authority.split(':').next().unwrap_or_default();
        let field = format!("spec.dstOverrides[{index}].authority");
        let remedy = "use a service's whole name";
        faults.require(is_name(host), &field, &destination.authority, remedy);
    }
}

fn check_condition(field: &str, condition: &RequestMatchSpec, faults: &mut Faults) {
    if *condition == RequestMatchSpec::default() {
        faults.add(field, "is empty", "give pathRegex, method, all, any or not");
    }
    if let Some(regex) = &condition.path_regex {
        check_regex(&format!("{field}.pathRegex"), regex, faults);
    }
    for (name, parts) in [("all", &condition.all), ("any", &condition.any)] {
        for (index, part) in parts.iter().flatten().enumerate() {
            check_condition(&format!("{field}.{name}[{index}]"), part, faults);
        }
    }
    if let Some(part) = &condition.not {
        check_condition(&format!("{field}.not"), part, faults);
    }
}
