import { InvalidArgumentError } from './errors.ts';
import { checkOptions, checkRunOptions, RUN_OPTIONS } from './options.ts';
import type { RunOptions } from './options.ts';
import type { TaskContext } from './task-context.ts';

/**
 * Brands on what users write, so that it is recognised without `instanceof`: two copies of this package in one process are
 * common.
 */
export const TASK: symbol = Symbol.for('signalbox.task');
export const TASK_CLASS: symbol = Symbol.for('signalbox.task-class');
export const ACTION: symbol = Symbol.for('signalbox.action');
export const DEFINITION: symbol = Symbol.for('signalbox.task-definition');

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
export interface TaskOptions extends RunOptions {
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

/** A subclass of AbstractTask with whatever parameters, as the registry takes it. */
export interface TaskClass {
  new (parameters: never): RestorableTask;
  readonly name: string;
  readonly taskName: string | undefined;
  readonly aliases: readonly string[];
  readonly options: TaskOptions;
  readonly parametersSchema: StandardSchema | undefined;
}

interface RestorableTask {
  run(context: TaskContext): unknown;
  setParameter(values: never): unknown;
  getQueueName?(parameters: never): string | undefined;
}

/** An action with whatever parameters. */
export interface ActionLike {
  run(parameters: never, context: TaskContext): unknown;
  getQueueName?(parameters: never): string | undefined;
}

export interface ActionClass {
  new (): ActionLike;
  readonly name: string;
  readonly taskName: string | undefined;
  readonly aliases: readonly string[];
  readonly options: TaskOptions;
  readonly parametersSchema: StandardSchema | undefined;
}

/** A mark that subclasses and instances inherit. */
export function brand<T extends object>(target: T, mark: symbol): T {
  return Object.defineProperty(target, mark, { value: true });
}

export function isTaskClass(value: unknown): value is TaskClass {
  return typeof value === 'function' && TASK_CLASS in value;
}

export function isActionClass(value: unknown): value is ActionClass {
  return typeof value === 'function' && ACTION in value;
}

export function isAction(value: unknown): value is ActionLike {
  return typeof value === 'object' && value !== null && ACTION in value;
}

export function isDefinedTask(value: unknown): value is { readonly definition: TaskDefinition } {
  return typeof value === 'function' && DEFINITION in value;
}

export function isDefinition(value: unknown): value is TaskDefinition {
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

const TASK_OPTIONS: readonly string[] = [...RUN_OPTIONS, 'priority', 'category', 'payloadVersion'];

/** Refused where they are written: in a worker nobody could mend them. */
export function checkTaskOptions(options: TaskOptions, name: string): void {
  checkOptions(options, TASK_OPTIONS, `task "${name}"`);
  checkRunOptions(options, `task "${name}"`);
}

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

export function definitionOfClass(TaskType: TaskClass): TaskDefinition {
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
function definitionOfAction(action: ActionLike): TaskDefinition {
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
  const name = checkTaskName(type.taskName ?? type.name);
  checkTaskOptions(type.options, name);
  return {
    name,
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
