import { InvalidArgumentError } from './errors.ts';
import { newId } from './environment.ts';
import type { LogLevel } from './environment.ts';
import type { Report } from './report.ts';
import type { RetryOptions } from './retry.ts';

/** What users write. Everything here is recognised by a `Symbol.for` brand, since two copies of this package in one process are common. */

const TASK: symbol = Symbol.for('signalbox.task');
const TASK_CLASS: symbol = Symbol.for('signalbox.task-class');
const ACTION: symbol = Symbol.for('signalbox.action');
const DEFINITION: symbol = Symbol.for('signalbox.task-definition');

declare const tokenType: unique symbol;

/** Names a service that `context.get` finds in the container. */
export type Token<T> = symbol & { readonly [tokenType]?: T };

/** The same name gives the same token, in every copy of this package. */
export function createToken<T>(name: string): Token<T> {
  return Symbol.for(`signalbox.token.${name}`);
}

/** What a handler may know and do while it runs. Its functions need no `this`: take out of it what you use. */
export interface TaskContext {
  readonly taskId: string;
  readonly taskName: string;
  readonly workerId: string;
  /** 1 for the first run; runs whose worker died count too. */
  readonly attempt: number;
  readonly queue: string;
  readonly label: string;
  readonly owner: string | null;
  /** As the caller of `enqueue` gave them. */
  readonly headers: Readonly<Record<string, string>>;
  /** Aborted on timeout, cancellation, loss of the claim and the end of a shutdown. Its `reason` is an error that says which. */
  readonly signal: AbortSignal;
  /** 0 to 100; seen at once in events and, throttled, in the task log. */
  readonly progress: (percent: number, note?: string) => void;
  /** A line in the task's own log and, with the task's id, in the worker's. */
  readonly log: (level: LogLevel, message: string) => void;
  /** @throws SignalboxError `SERVICE_UNKNOWN` */
  readonly get: <T>(token: Token<T>) => T;
}

/** The data of a report, or the value itself. */
export type DataOf<R> = R extends Report<infer D> ? D : R;

/** What `handle.result()` of a task resolves to. */
export type ResultOf<T> = T extends { run(...args: never[]): infer R } ? DataOf<Awaited<R>> : never;

/** The task chooses its queue at run time, from its parameters. An empty answer: association, then default queue. */
export interface QueueNameGetter<P = unknown> {
  getQueueName(parameters: P): string | undefined;
}
export type QueueAssociable<P = unknown> = QueueNameGetter<P>;

/** The subset of the Standard Schema interface (standardschema.dev, version 1) that zod, valibot, arktype and others implement. */
export interface StandardSchema<Input = unknown, Output = Input> {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: Input; readonly output: Output } | undefined;
  };
}
export type SchemaResult<Output> =
  { readonly value: Output; readonly issues?: undefined } | { readonly issues: readonly SchemaIssue[] };
export interface SchemaIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/** How a task wants to be treated; a queue's and the configuration's defaults fill the gaps. */
export interface TaskOptions {
  readonly retry?: RetryOptions;
  /** Milliseconds for one run; absent or 0: no timeout. */
  readonly timeoutMs?: number;
  /** Higher first inside a queue. An integer from -32768 to 32767; default 0. */
  readonly priority?: number;
  readonly category?: string;
  /** Version of the parameters' shape; travels with the task. Default 1. */
  readonly payloadVersion?: number;
}

/** A task as the registry knows it: everything but one call's parameters. */
export interface TaskDefinition {
  readonly name: string;
  /** Former names; messages that carry them find this task. */
  readonly aliases: readonly string[];
  readonly options: TaskOptions;
  readonly schema: StandardSchema | undefined;
  /** What makes two definitions the same one: the class, the action or the function. */
  readonly source: unknown;
  getQueueName(parameters: unknown): string | undefined;
  run(parameters: unknown, context: TaskContext): unknown;
}

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

/** A subclass of AbstractTask with whatever parameters, as the registry takes it. */
export interface TaskClass {
  new (parameters: never): RestorableTask;
  readonly name: string;
  readonly taskName: string | undefined;
  readonly aliases: readonly string[];
  readonly options: TaskOptions;
  readonly parametersSchema: StandardSchema | undefined;
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

interface RestorableTask {
  run(context: TaskContext): unknown;
  setParameter(values: never): unknown;
  getQueueName?(parameters: never): string | undefined;
}

export interface ActionClass {
  new (): Action<never>;
  readonly name: string;
  readonly taskName: string | undefined;
  readonly aliases: readonly string[];
  readonly options: TaskOptions;
  readonly parametersSchema: StandardSchema | undefined;
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

/** A mark that subclasses and instances inherit. */
function brand<T extends object>(target: T, mark: symbol): T {
  return Object.defineProperty(target, mark, { value: true });
}

export function isTask(value: unknown): value is Task {
  return typeof value === 'object' && value !== null && TASK in value;
}

export function isTaskClass(value: unknown): value is TaskClass {
  return typeof value === 'function' && TASK_CLASS in value;
}

export function isActionClass(value: unknown): value is ActionClass {
  return typeof value === 'function' && ACTION in value;
}

export function isAction(value: unknown): value is Action<never> {
  return typeof value === 'object' && value !== null && ACTION in value;
}

export function isDefinedTask(value: unknown): value is { readonly definition: TaskDefinition } {
  return typeof value === 'function' && DEFINITION in value;
}

function isDefinition(value: unknown): value is TaskDefinition {
  return typeof value === 'object' && value !== null && 'source' in value && 'aliases' in value;
}

/** 200 characters: what the narrowest store of names holds with room to spare. */
const MAX_NAME_LENGTH = 200;

export function checkTaskName(name: unknown): string {
  if (typeof name !== 'string' || name === '' || name.length > MAX_NAME_LENGTH || /\p{C}/u.test(name)) {
    throw new InvalidArgumentError(
      'TASK_NAME_INVALID',
      `A task needs a name of 1 to ${MAX_NAME_LENGTH} printable characters; got ${JSON.stringify(name) ?? String(name)}.`,
    );
  }
  return name;
}

const definitions = new WeakMap<object, TaskDefinition>();

/** The definition behind anything that can be registered or enqueued; one per class, action or function. */
export function definitionOfCallable(callable: unknown): TaskDefinition {
  if (isDefinedTask(callable)) return callable.definition;
  if (isTaskClass(callable)) return definitionOfClass(callable);
  if (isActionClass(callable)) return definitionOfActionClass(callable);
  if (isAction(callable)) return definitionOfAction(callable);
  throw new InvalidArgumentError(
    'TASK_NOT_SERIALISABLE',
    `Expected a task class, an Action or a defined task; got ${describe(callable)}.`,
  );
}

function definitionOfClass(TaskType: TaskClass): TaskDefinition {
  return remember(TaskType, () => ({
    ...naming(TaskType),
    source: TaskType,
    getQueueName: (parameters) => restore(TaskType, parameters).getQueueName?.(parameters as never),
    run: (parameters, context) => restore(TaskType, parameters).run(context),
  }));
}

/** A class whose constructor takes no parameters, or others, still gets those that were enqueued. */
function restore(TaskType: TaskClass, parameters: unknown): RestorableTask {
  const task = new TaskType(parameters as never);
  task.setParameter(parameters as never);
  return task;
}

function definitionOfActionClass(ActionType: ActionClass): TaskDefinition {
  return remember(ActionType, () => ({
    ...naming(ActionType),
    source: ActionType,
    getQueueName: (parameters) => new ActionType().getQueueName?.(parameters as never),
    run: (parameters, context) => new ActionType().run(parameters as never, context),
  }));
}

/** An instance keeps what its constructor was given; on another worker the registered one runs. */
function definitionOfAction(action: Action<never>): TaskDefinition {
  const ActionType = action.constructor as ActionClass;
  return remember(action, () => ({
    ...naming(ActionType),
    source: ActionType,
    getQueueName: (parameters) => action.getQueueName?.(parameters as never),
    run: (parameters, context) => action.run(parameters as never, context),
  }));
}

function naming(
  type: TaskClass | ActionClass,
): Pick<TaskDefinition, 'name' | 'aliases' | 'options' | 'schema'> {
  return {
    name: checkTaskName(type.taskName ?? type.name),
    aliases: type.aliases.map(checkTaskName),
    options: type.options,
    schema: type.parametersSchema,
  };
}

function remember(key: object, make: () => TaskDefinition): TaskDefinition {
  const known = definitions.get(key);
  if (known !== undefined) return known;
  const made = make();
  definitions.set(key, made);
  return made;
}

function describe(value: unknown): string {
  return typeof value === 'function'
    ? `the function ${value.name || '(anonymous)'}`
    : `a value of type ${typeof value}`;
}
