import { fieldOf, listOf, missing, pathOf, recordOf, show } from './problem.ts';
import type { Problem } from './problem.ts';

/** What is right by itself and wrong together; looks at whatever has the right shape, so that all problems come at once. */
export function contradictions(root: unknown): Problem[] {
  const queues = listOf(fieldOf(root, 'queues'));
  const names = queues.map((queue) => fieldOf(queue, 'name')).filter((name) => typeof name === 'string');
  return [
    ...duplicates(queues),
    ...collisions(root, queues),
    ...unknownQueues(root, names),
    ...unknownPersistences(root, queues),
    ...unguardedQueues(root, queues),
  ];
}

function duplicates(queues: readonly unknown[]): Problem[] {
  const seen = new Map<string, string>();
  return queues.flatMap((queue, i): Problem[] => {
    const name = fieldOf(queue, 'name');
    if (typeof name !== 'string') return [];
    const other = seen.get(name.toLowerCase());
    if (other === undefined) {
      seen.set(name.toLowerCase(), name);
      return [];
    }
    const text =
      other === name
        ? `queues[${i}].name is ${show(name)}, which an earlier queue in \`queues\` has already.`
        : `queues[${i}].name is ${show(name)}, which differs from ${show(other)} in \`queues\` only in case.`;
    return [{ code: 'QUEUE_DUPLICATE', text }];
  });
}

function collisions(root: unknown, queues: readonly unknown[]): Problem[] {
  const log = fieldOf(fieldOf(root, 'taskLog'), 'broker');
  if (fieldOf(log, 'type') !== 'rds') return [];
  const container = fieldOf(log, 'container') ?? 'task_log';
  return queues.flatMap((queue, i): Problem[] => {
    const name = fieldOf(queue, 'name');
    const broker = fieldOf(queue, 'broker');
    if (typeof name !== 'string' || typeof container !== 'string') return [];
    if (name.toLowerCase() !== container.toLowerCase() || fieldOf(broker, 'type') !== 'rds') return [];
    if (!isSameDatabase(root, fieldOf(broker, 'persistence'), fieldOf(log, 'persistence'))) return [];
    return [
      {
        code: 'QUEUE_NAME_COLLISION',
        text: `queues[${i}].name is ${show(name)}, like the container of the task log in the same database: both would be tq_${name}.`,
      },
    ];
  });
}

function isSameDatabase(root: unknown, one: unknown, other: unknown): boolean {
  if (one === other) return true;
  const connections = [one, other].map((name) =>
    JSON.stringify(fieldOf(fieldOf(fieldOf(root, 'persistences'), String(name)), 'connection')),
  );
  return connections[0] !== undefined && connections[0] === connections[1];
}

function unknownQueues(root: unknown, names: readonly string[]): Problem[] {
  const chosen: [string, unknown][] = Object.entries(recordOf(fieldOf(root, 'taskToQueueAssociations'))).map(
    ([task, queue]) => [pathOf(['taskToQueueAssociations', task]), queue],
  );
  return [['defaultQueue', fieldOf(root, 'defaultQueue')] as const, ...chosen].flatMap(
    ([path, name]): Problem[] => {
      if (typeof name !== 'string' || name === '' || names.includes(name)) return [];
      return [{ code: 'QUEUE_UNKNOWN', text: `${path} names the queue ${missing(name, names)}` }];
    },
  );
}

function unknownPersistences(root: unknown, queues: readonly unknown[]): Problem[] {
  const names = Object.keys(recordOf(fieldOf(root, 'persistences')));
  const brokers: [string, unknown][] = queues.map((queue, i) => [
    `queues[${i}].broker.persistence`,
    fieldOf(queue, 'broker'),
  ]);
  brokers.push(['taskLog.broker.persistence', fieldOf(fieldOf(root, 'taskLog'), 'broker')]);
  return brokers.flatMap(([path, broker]): Problem[] => {
    const name = fieldOf(broker, 'persistence');
    if (fieldOf(broker, 'type') !== 'rds' || typeof name !== 'string' || names.includes(name)) return [];
    return [{ code: 'PERSISTENCE_UNKNOWN', text: `${path} names the persistence ${missing(name, names)}` }];
  });
}

function unguardedQueues(root: unknown, queues: readonly unknown[]): Problem[] {
  const type = fieldOf(fieldOf(fieldOf(root, 'taskLog'), 'broker'), 'type') ?? 'memory';
  const shared = queues.filter((queue) => fieldOf(fieldOf(queue, 'broker'), 'type') === 'rds');
  if (type !== 'memory' || shared.length === 0) return [];
  const names = shared.map((queue) => show(fieldOf(queue, 'name'))).join(', ');
  return [
    {
      code: 'SHARED_QUEUE_NEEDS_SHARED_LOG',
      text: `taskLog.broker.type is "memory", but other processes share the queues ${names}; allowed: rds.`,
    },
  ];
}
