import { ConfigurationError, InvalidArgumentError } from './errors.ts';
import type { Queue } from './queue.ts';
import { definitionOfCallable } from './task-definition.ts';
import type { TaskDefinition } from './task-definition.ts';

/** Which queue a task goes to: the call's own choice, then the task's `getQueueName`, its association, the default queue. */
export class Routing {
  readonly #queues: Map<string, Queue>;
  readonly #associations: Map<string, string>;
  readonly #defaultQueue: string | undefined;

  /**
   * Checked in this order, all names of one kind at once.
   * @throws ConfigurationError `QUEUES_MISSING`, `QUEUE_DUPLICATE`, `QUEUE_UNKNOWN`
   */
  constructor(
    queues: readonly Queue[],
    associations: Readonly<Record<string, string>> = {},
    defaultQueue?: string,
  ) {
    if (!(queues?.length > 0)) {
      throw new ConfigurationError(
        'QUEUES_MISSING',
        'The option `queues` must be set to a list of at least one queue.',
      );
    }
    checkDuplicates(queues);
    this.#queues = new Map(queues.map((queue) => [queue.name, queue]));
    this.#associations = new Map(Object.entries(associations));
    this.#defaultQueue = defaultQueue;
    this.#checkKnown('taskToQueueAssociations', [...this.#associations.values()]);
    if (defaultQueue !== undefined) this.#checkKnown('defaultQueue', [defaultQueue]);
  }

  get queues(): readonly Queue[] {
    return [...this.#queues.values()];
  }

  get associations(): ReadonlyMap<string, string> {
    return this.#associations;
  }

  has(name: string): boolean {
    return this.#queues.has(name);
  }

  /** @throws InvalidArgumentError `QUEUE_UNKNOWN` */
  get(name: string): Queue {
    const queue = this.#queues.get(name);
    if (queue === undefined) {
      throw new InvalidArgumentError(
        'QUEUE_UNKNOWN',
        `There is no queue "${name}"; there are ${[...this.#queues.keys()].join(', ')}.`,
        { place: { queue: name } },
      );
    }
    return queue;
  }

  queueFor(definition: TaskDefinition, parameters: unknown, chosen: string | undefined): Queue {
    const name =
      chosen || definition.getQueueName(parameters) || this.#associationOf(definition) || this.#defaultQueue;
    return name ? this.get(name) : (this.queues[0] as Queue);
  }

  /** Replaces an earlier association of the task. */
  associate(task: string | object, queue: string): void {
    const name = typeof task === 'string' ? task : definitionOfCallable(task).name;
    this.#associations.set(name, this.get(queue).name);
  }

  #associationOf({ name, aliases }: TaskDefinition): string | undefined {
    for (const known of [name, ...aliases]) {
      const queue = this.#associations.get(known);
      if (queue !== undefined) return queue;
    }
    return undefined;
  }

  #checkKnown(option: string, names: readonly string[]): void {
    const unknown = [...new Set(names.filter((name) => !this.#queues.has(name)))];
    if (unknown.length === 0) return;
    throw new ConfigurationError(
      'QUEUE_UNKNOWN',
      `The option \`${option}\` names queues that do not exist: ${unknown.join(', ')}. There are ${[...this.#queues.keys()].join(', ')}.`,
    );
  }
}

/** Names that differ only in case would share a table or a queue on some brokers. */
function checkDuplicates(queues: readonly Queue[]): void {
  const seen = new Set<string>();
  const doubled = new Set<string>();
  for (const { name } of queues) {
    if (seen.has(name.toLowerCase())) doubled.add(name);
    seen.add(name.toLowerCase());
  }
  if (doubled.size === 0) return;
  throw new ConfigurationError(
    'QUEUE_DUPLICATE',
    `The option \`queues\` holds duplicated queue names: ${[...doubled].join(', ')}.`,
  );
}
