"""Reflection v1alpha: a tool that knows nothing of us can list and describe everything."""

from google.protobuf import descriptor_pb2

from daemon import DaemonTest, TIMEOUT_S, main, serialize

METHOD = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


class ReflectionTest(DaemonTest):

    def ask(self, **question):
        import reflection_pb2
        call = self.daemon.channel.stream_stream(
            METHOD, request_serializer=serialize,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString)
        request = reflection_pb2.ServerReflectionRequest(**question)
        return next(call(iter([request]), timeout=TIMEOUT_S))

    def test_services_are_listed(self):
        response = self.ask(list_services="")
        names = {service.name for service in response.list_services_response.service}
        self.assertLessEqual({"moelight.v1.BatchJobService", "moelight.v1.InferenceService",
                              "inference.GRPCInferenceService",
                              "grpc.health.v1.Health",
                              "grpc.reflection.v1alpha.ServerReflection"}, names)

    def test_files_and_their_imports_can_be_fetched(self):
        seen = {}
        response = self.ask(file_containing_symbol="moelight.v1.BatchJobService")
        waiting = list(response.file_descriptor_response.file_descriptor_proto)
        self.assertTrue(waiting)
        while waiting:
            file = descriptor_pb2.FileDescriptorProto.FromString(waiting.pop())
            seen[file.name] = file
            for name in file.dependency:
                if name not in seen:
                    answer = self.ask(file_by_filename=name).file_descriptor_response
                    self.assertTrue(answer.file_descriptor_proto, name)
                    waiting += answer.file_descriptor_proto
        service = seen["moelight/v1/batch_job.proto"].service[0]
        self.assertEqual(len(service.method), 9)
        self.assertIn("google/rpc/status.proto", seen)

    def test_unknown_symbol_is_an_error(self):
        self.assertTrue(self.ask(file_containing_symbol="no.Such").HasField("error_response"))


if __name__ == "__main__":
    main()
