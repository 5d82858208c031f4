import { InvalidArgumentError, TaskError } from './errors.ts';
import type { DefinedTask } from './task.ts';
import type { TaskContext } from './task-context.ts';
import { checkTaskName, definitionOfCallable } from './task-definition.ts';
import type { ActionClass, ActionLike, SchemaIssue, TaskClass, TaskDefinition } from './task-definition.ts';

/** A task class, an action or its class, or a defined task. */
export type Registrable =
  TaskClass | ActionClass | ActionLike | Pick<DefinedTask<never, unknown>, 'definition'>;

/**
 * Task name → definition: the allow-list of what this process may run. A name that came with a message is looked up
 * here and nowhere else; it never chooses a class by itself.
 */
export class TaskRegistry {
  readonly #byName = new Map<string, TaskDefinition>();

  /**
   * Registers a task class, an action or a defined task under its name and its aliases. Repeatable.
   * @throws InvalidArgumentError `TASK_DUPLICATE` when another task has one of the names.
   */
  register(task: Registrable): this {
    return this.add(definitionOfCallable(task));
  }

  /** Registers a plain function under a name. */
  registerFunction(name: string, run: (parameters: never, context: TaskContext) => unknown): this {
    return this.add({
      name: checkTaskName(name),
      aliases: [],
      options: {},
      schema: undefined,
      source: run,
      getQueueName: () => undefined,
      run: (parameters, context) => run(parameters as never, context),
    });
  }

  add(definition: TaskDefinition): this {
    for (const name of [definition.name, ...definition.aliases]) {
      const known = this.#byName.get(name);
      if (known !== undefined && known.source !== definition.source) {
        throw new InvalidArgumentError(
          'TASK_DUPLICATE',
          `The name "${name}" of task "${definition.name}" belongs to task "${known.name}" already.`,
          { place: { taskName: name } },
        );
      }
    }
    for (const name of [definition.name, ...definition.aliases]) {
      if (!this.#byName.has(name)) this.#byName.set(name, definition);
    }
    return this;
  }

  find(name: string): TaskDefinition | undefined {
    return this.#byName.get(name);
  }

  /** @throws TaskError `TASK_UNKNOWN` */
  get(name: string): TaskDefinition {
    const definition = this.#byName.get(name);
    if (definition === undefined) {
      throw new TaskError('TASK_UNKNOWN', `No task is registered as "${name}".`, {
        place: { taskName: name },
      });
    }
    return definition;
  }

  /** Names without aliases, in the order of their registration. */
  get names(): readonly string[] {
    return [...new Set([...this.#byName.values()].map((definition) => definition.name))];
  }
}

/**
 * What the handler gets for these parameters: the output of the task's validator, or the parameters themselves.
 * @throws TaskError `PARAMETERS_INVALID` with every issue and its path.
 */
export async function validateParameters(definition: TaskDefinition, parameters: unknown): Promise<unknown> {
  if (definition.schema === undefined) return parameters;
  const result = await definition.schema['~standard'].validate(parameters);
  if (result.issues === undefined) return result.value;
  throw new TaskError(
    'PARAMETERS_INVALID',
    `Parameters of task "${definition.name}": ${result.issues.map(describeIssue).join('; ')}`,
    { place: { taskName: definition.name } },
  );
}

function describeIssue({ message, path = [] }: SchemaIssue): string {
  const keys = path.map((part) => String(typeof part === 'object' ? part.key : part));
  return keys.length === 0 ? message : `${keys.join('.')}: ${message}`;
}
