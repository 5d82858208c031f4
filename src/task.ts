import { newId } from './environment.ts';
import { InvalidArgumentError } from './errors.ts';
import type { Report } from './report.ts';
import type { TaskContext } from './task-context.ts';
import {
  ACTION,
  brand,
  checkTaskName,
  checkTaskOptions,
  DEFINITION,
  definitionOfCallable,
  definitionOfClass,
  isDefinition,
  TASK,
  TASK_CLASS,
} from './task-definition.ts';
import type { StandardSchema, TaskClass, TaskDefinition, TaskOptions } from './task-definition.ts';

export { createToken } from './task-context.ts';
export type { TaskContext, Token } from './task-context.ts';
export type { StandardSchema, TaskDefinition, TaskOptions } from './task-definition.ts';

// What users write.

/** The data of a report, or the value itself. */
export type DataOf<R> = R extends Report<infer D> ? D : R;

/** What `handle.result()` of a task resolves to. */
export type ResultOf<T> = T extends { run(...args: never[]): infer R } ? DataOf<Awaited<R>> : never;

/** The task chooses its queue at run time, from its parameters. An empty answer: association, then default queue. */
export interface QueueNameGetter<P = unknown> {
  getQueueName(parameters: P): string | undefined;
}
export type QueueAssociable<P = unknown> = QueueNameGetter<P>;

/** One call of a task: what `enqueue` takes. */
export interface Task<P = unknown, R = unknown> {
  readonly id: string;
  readonly parameters: P;
  readonly label: string;
  readonly definition: TaskDefinition;
  run(context: TaskContext): R;
}

type OptionalWhenEmpty<P> = {} extends P ? [parameters?: P] : [parameters: P];

/**
 * A task of its own class: parameters in, a Report or JSON data out.
 *
 * Its stored name is `static taskName`, else the name of the class: set it when the class may be renamed.
 */
export abstract class AbstractTask<P extends object = Record<string, unknown>> implements Task<P> {
  static readonly taskName: string | undefined = undefined;
  static readonly aliases: readonly string[] = [];
  static readonly options: TaskOptions = {};
  static readonly parametersSchema: StandardSchema | undefined = undefined;

  /** Unique; made here, so that it is known before the task is enqueued. */
  readonly id: string = newId();
  label = '';
  #parameters: P;

  constructor(...[parameters]: OptionalWhenEmpty<P>) {
    this.#parameters = { ...parameters } as P;
  }

  /** Does the work. A thrown error is retried by the task's policy; a returned failure report is final. */
  abstract run(context: TaskContext): unknown;

  /** Overridden by tasks that choose their queue. */
  getQueueName?(parameters: P): string | undefined;

  get parameters(): P {
    return this.#parameters;
  }

  get definition(): TaskDefinition {
    return definitionOfClass(this.constructor as TaskClass);
  }

  /** One parameter, or several as a map. */
  setParameter<K extends keyof P & string>(key: K, value: P[K]): this;
  setParameter(values: Partial<P>): this;
  setParameter(keyOrValues: string | Partial<P>, value?: unknown): this {
    if (typeof keyOrValues === 'string') {
      this.#parameters = { ...this.#parameters, [keyOrValues]: value };
    } else if (typeof keyOrValues === 'object' && keyOrValues !== null) {
      this.#parameters = { ...this.#parameters, ...keyOrValues };
    } else {
      throw new InvalidArgumentError(
        'INVALID_ARGUMENT',
        `A parameter's key is a string, or a map of several; got ${typeof keyOrValues}.`,
      );
    }
    return this;
  }

  getParameter<K extends keyof P & string>(key: K): P[K] | undefined;
  getParameter<K extends keyof P & string, F extends P[K]>(key: K, fallback: F): NonNullable<P[K]> | F;
  getParameter(key: string, fallback?: unknown): unknown {
    if (typeof key !== 'string') {
      throw new InvalidArgumentError('INVALID_ARGUMENT', `A parameter's key is a string; got ${typeof key}.`);
    }
    return (this.#parameters as Record<string, unknown>)[key] ?? fallback;
  }

  toString(): string {
    return `TASK ${this.definition.name} [${this.id}]`;
  }
}

/**
 * Work that may be called from the queue, from the command line and directly: parameters are an argument.
 * An instance with `getQueueName` chooses its queue.
 */
export abstract class Action<P = unknown> {
  static readonly taskName: string | undefined = undefined;
  static readonly aliases: readonly string[] = [];
  static readonly options: TaskOptions = {};
  static readonly parametersSchema: StandardSchema | undefined = undefined;

  abstract run(parameters: P, context: TaskContext): unknown;

  getQueueName?(parameters: P): string | undefined;
}

export interface TaskSettings<P, R, Input = P> extends TaskOptions {
  /** Stored with every task; stands for this function for ever. */
  readonly name: string;
  readonly aliases?: readonly string[];
  /** Any Standard Schema validator: checked at enqueue, and again in the worker, which gets its output. */
  readonly parameters?: StandardSchema<Input, P>;
  readonly queue?: (parameters: P) => string | undefined;
  readonly run: (parameters: P, context: TaskContext) => R;
}

/** Call it with parameters to get a task that `enqueue` takes. */
export interface DefinedTask<Input, R> {
  (parameters: Input): CallbackTask<Input, R>;
  readonly definition: TaskDefinition;
}

/** A task from a plain function. */
export function defineTask<P, R, Input = P>(settings: TaskSettings<P, R, Input>): DefinedTask<Input, R> {
  const { name, aliases = [], parameters: schema, queue, run, ...options } = settings;
  if (typeof run !== 'function') {
    throw new InvalidArgumentError('INVALID_ARGUMENT', `Task "${name}" has no function \`run\`.`, {
      place: { taskName: name },
    });
  }
  checkTaskOptions(options, name);
  const definition: TaskDefinition = {
    name: checkTaskName(name),
    aliases: aliases.map(checkTaskName),
    options,
    schema,
    source: run,
    getQueueName: (given) => queue?.(given as P),
    run: (given, context) => run(given as P, context),
  };
  const create = (given: Input): CallbackTask<Input, R> => new CallbackTask<Input, R>(definition, given);
  return brand(Object.assign(create, { definition }), DEFINITION);
}

/** One call of an action or a defined task. `dispatcher.createTask` makes and enqueues it. */
export class CallbackTask<P = unknown, R = unknown> implements Task<P, R> {
  readonly id: string = newId();
  readonly definition: TaskDefinition;
  readonly parameters: P;
  label = '';
  /** The queue has it. */
  isEnqueued = false;
  /** Why it is not enqueued. */
  error: unknown = undefined;

  constructor(callable: Callable<P, R> | TaskDefinition, parameters: P) {
    this.definition = isDefinition(callable) ? callable : definitionOfCallable(callable);
    this.parameters = parameters;
  }

  run(context: TaskContext): R {
    return this.definition.run(this.parameters, context) as R;
  }

  toString(): string {
    return `TASK ${this.definition.name} [${this.id}]`;
  }
}

interface Runnable<P, R> {
  run(parameters: P, context: TaskContext): R;
}

/** What `createTask` takes: an action (or its class) or a defined task. */
export type Callable<P = unknown, R = unknown> =
  Runnable<P, R> | (new () => Runnable<P, R>) | DefinedTask<P, R>;

brand(AbstractTask, TASK_CLASS);
brand(AbstractTask.prototype, TASK);
brand(CallbackTask.prototype, TASK);
brand(Action, ACTION);
brand(Action.prototype, ACTION);

export function isTask(value: unknown): value is Task {
  return typeof value === 'object' && value !== null && TASK in value;
}
