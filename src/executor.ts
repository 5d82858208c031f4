import type { TaskContext } from './task-context.ts';
import type { TaskDefinition } from './task-definition.ts';

/** One call of a handler. */
export interface Invocation {
  readonly definition: TaskDefinition;
  /** Validated. */
  readonly parameters: unknown;
  readonly context: TaskContext;
}

/** Where handlers run: here, in a thread, in a process. Claims, leases and settling stay with the caller. */
export interface TaskExecutor {
  /** Resolves with what the handler returned, rejects with what it threw. */
  execute(invocation: Invocation): Promise<unknown>;
}

/** Runs handlers on this event loop. */
export class InlineExecutor implements TaskExecutor {
  async execute({ definition, parameters, context }: Invocation): Promise<unknown> {
    return definition.run(parameters, context);
  }
}
