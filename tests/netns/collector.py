"""A collector of spans that is not ours: gRPC's own server, OpenTelemetry's own messages.

    collector.py PORT FILE      adds a line of JSON to FILE for each span
"""

import json
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as messages
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as services
from opentelemetry.proto.trace.v1 import trace_pb2


def attributes(pairs):
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in pairs}


class Collector(services.TraceServiceServicer):
    def __init__(self, path):
        self.path = path

    def Export(self, request, context):
        with open(self.path, "a", encoding="utf-8") as file:
            for of_resource in request.resource_spans:
                resource = attributes(of_resource.resource.attributes)
                for span in (span for scope in of_resource.scope_spans for span in scope.spans):
                    line = {
                        "resource": resource, "name": span.name, "state": span.trace_state,
                        "kind": trace_pb2.Span.SpanKind.Name(span.kind),
                        "trace": span.trace_id.hex(), "span": span.span_id.hex(), "parent": span.parent_span_id.hex(),
                        "took_ns": span.end_time_unix_nano - span.start_time_unix_nano,
                        "began_ns": span.start_time_unix_nano,
                        "status": span.status.code, "attributes": attributes(span.attributes),
                    }
                    file.write(json.dumps(line) + "\n")
        return messages.ExportTraceServiceResponse()


def main():
    port, path = sys.argv[1:]
    server = grpc.server(ThreadPoolExecutor(max_workers=2))
    services.add_TraceServiceServicer_to_server(Collector(path), server)
    server.add_insecure_port(f"0.0.0.0:{port}")
    server.start()
    print("ready", flush=True)
    server.wait_for_termination()


main()
