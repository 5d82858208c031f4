import { Batcher } from './batcher.ts';
import type { Clock, Logger } from './environment.ts';
import type { HeldTask, TaskLine, TaskLogBroker } from './task-log-broker.ts';

/** A progress line of a task is written at most this often; the events are not held back. */
const PROGRESS_EVERY_MS = 1_000;
const MAX_LINE_LENGTH = 8_000;
const MAX_LINES_PER_TASK = 1_000;

interface Written {
  count: number;
  progressAt: number;
  /** Resolves when the newest line, and so every line before it, is stored or given up. */
  stored: Promise<void>;
}

/**
 * What tasks write while they run. Kept only under a live claim, in batches, bounded in length and number.
 * A line that cannot be stored is a warning in the worker's log: it never fails its task.
 */
export class TaskLines {
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #batcher: Batcher<TaskLine & { readonly token?: string }, undefined>;
  readonly #written = new Map<string, Written>();

  constructor(log: TaskLogBroker, clock: Clock, logger: Logger) {
    this.#clock = clock;
    this.#logger = logger;
    this.#batcher = new Batcher({
      flush: async (lines) => {
        await log.append(lines);
        return lines.map(() => undefined);
      },
      sizeOf: (line) => line.text.length,
      concurrency: 1,
    });
  }

  add(task: HeldTask, kind: TaskLine['kind'], text: string): void {
    const written = this.#of(task);
    if (written.count >= MAX_LINES_PER_TASK) return;
    written.count += 1;
    const last = written.count === MAX_LINES_PER_TASK ? ' (further lines are not kept)' : '';
    const line = { taskId: task.id, token: task.token, kind, at: this.#clock.now(), text: cut(text) + last };
    written.stored = this.#batcher
      .add(line)
      .catch((err: unknown) => this.#logger.warn({ err, task: task.id }, 'A line of a task was not stored'));
  }

  addProgress(task: HeldTask, percent: number, note: string | undefined): void {
    const written = this.#of(task);
    const now = this.#clock.monotonic();
    if (percent < 100 && now - written.progressAt < PROGRESS_EVERY_MS) return;
    written.progressAt = now;
    this.add(task, 'progress', JSON.stringify({ percent, note }));
  }

  has(task: HeldTask): boolean {
    return this.#written.has(task.id);
  }

  /** For a task that will not be settled here. */
  forget(task: HeldTask): void {
    this.#written.delete(task.id);
  }

  /** Resolves when what was added is stored. Goes before the settlement: afterwards the claim accepts no line. */
  async flush(task: HeldTask): Promise<void> {
    const written = this.#written.get(task.id);
    this.#written.delete(task.id);
    await written?.stored;
  }

  #of(task: HeldTask): Written {
    const known = this.#written.get(task.id);
    if (known !== undefined) return known;
    const fresh = { count: 0, progressAt: -Infinity, stored: Promise.resolve() };
    this.#written.set(task.id, fresh);
    return fresh;
  }
}

function cut(text: string): string {
  return text.length > MAX_LINE_LENGTH ? `${text.slice(0, MAX_LINE_LENGTH)}…` : text;
}
