// Entry of the function: AWS's runtime has the client.
import { DescribeServicesCommand, ECSClient, UpdateServiceCommand } from '@aws-sdk/client-ecs';
import { wakeHandler } from './handler.mjs';

const { CLUSTER: cluster, SERVICE: service, KEY_SHA256: keySha256 } = process.env;
const ecs = new ECSClient({});

export const handler = wakeHandler({
  keySha256,
  async desiredCount() {
    const { services } = await ecs.send(new DescribeServicesCommand({ cluster, services: [service] }));
    if (services?.[0] === undefined) throw new Error(`cluster ${cluster} has no service ${service}`);
    return services[0].desiredCount ?? 0;
  },
  async setDesiredCount(count) {
    await ecs.send(new UpdateServiceCommand({ cluster, service, desiredCount: count }));
  },
});
