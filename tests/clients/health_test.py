"""grpc.health.v1: every service and both probes, by Check and by Watch."""

import grpc

from daemon import DaemonTest, main

CHECK = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
NAMES = ["", "live", "ready", "moelight.v1.BatchJobService", "moelight.v1.InferenceService",
         "moelight.v1.AdminService", "inference.GRPCInferenceService"]


class HealthTest(DaemonTest):

    def test_every_name_is_serving(self):
        import health_pb2
        for name in NAMES:
            with self.subTest(name):
                response = self.unary(CHECK, health_pb2.HealthCheckRequest(service=name),
                                      health_pb2.HealthCheckResponse)
                self.assertEqual(response.status, health_pb2.HealthCheckResponse.SERVING)

    def test_unknown_name_is_not_found(self):
        import health_pb2
        self.assert_code(grpc.StatusCode.NOT_FOUND, self.unary, CHECK,
                         health_pb2.HealthCheckRequest(service="nobody"),
                         health_pb2.HealthCheckResponse)

    def test_watch_sends_the_state_at_once(self):
        import health_pb2
        stream = self.server_stream(WATCH, health_pb2.HealthCheckRequest(service="ready"),
                                    health_pb2.HealthCheckResponse)
        self.assertEqual(next(stream).status, health_pb2.HealthCheckResponse.SERVING)
        stream.cancel()


if __name__ == "__main__":
    main()
