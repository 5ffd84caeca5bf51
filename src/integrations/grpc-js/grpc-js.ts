import type { Integration } from '../integration.js'
import { patchChannel, patchConnector } from './channel.js'
import { patchClientFactory, patchInterceptors } from './client.js'
import { classifyGrpc, type GrpcCall } from './grpc-call.js'

/** gRPC for Node: clients made from definitions, generated ones, and calls by hand. */
export const grpcIntegration: Integration<GrpcCall> = {
  name: '@grpc/grpc-js',
  system: 'grpc',
  versions: '>=1.14 <2',
  // The OpenTelemetry SDK loads it for its exporters: a copy that was there first is met all the same.
  targets: [
    { file: '@grpc/grpc-js/build/src/channel.js', late: true, patch: patchChannel },
    { file: '@grpc/grpc-js/build/src/client-interceptors.js', late: true, patch: patchInterceptors },
    { file: '@grpc/grpc-js/build/src/make-client.js', late: true, patch: patchClientFactory },
    { file: '@grpc/grpc-js/build/src/transport.js', late: true, patch: patchConnector },
  ],
  classify: classifyGrpc,
  simulate: () => ({ code: 0, message: Buffer.alloc(0) }),
  docs: 'Calls of all four kinds; reads are methods declared `NO_SIDE_EFFECTS`, health, reflection and OTLP.',
}
