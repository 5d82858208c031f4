import { setImmediate } from 'node:timers/promises';
import type { Clock } from '../../src/environment.ts';

interface Sleeper {
  readonly due: number;
  readonly wake: () => void;
}

/** Turns of the event loop in which everything that can go on without time does. */
const TURNS = 12;

/** Time that stands still until the test moves it. */
export class ManualClock implements Clock {
  #now = Date.UTC(2026, 0, 1);
  readonly #sleepers = new Set<Sleeper>();

  now(): number {
    return this.#now;
  }

  monotonic(): number {
    return this.#now;
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    if (ms <= 0) {
      await setImmediate();
      return;
    }
    await new Promise<void>((resolve) => {
      if (signal?.aborted === true) {
        resolve();
        return;
      }
      const wake = (): void => {
        this.#sleepers.delete(sleeper);
        signal?.removeEventListener('abort', wake);
        resolve();
      };
      const sleeper: Sleeper = { due: this.#now + ms, wake };
      this.#sleepers.add(sleeper);
      signal?.addEventListener('abort', wake, { once: true });
    });
  }

  /** Wakes the sleepers on the way one after the other, and lets each do what it can before time goes on. */
  async advance(ms: number): Promise<void> {
    const target = this.#now + ms;
    for (;;) {
      await this.settle();
      const next = [...this.#sleepers].sort((a, b) => a.due - b.due)[0];
      if (next === undefined || next.due > target) break;
      this.#now = Math.max(this.#now, next.due);
      next.wake();
    }
    this.#now = target;
    await this.settle();
  }

  /** Lets go on what can go on without time. */
  async settle(): Promise<void> {
    for (let turn = 0; turn < TURNS; turn += 1) await setImmediate();
  }
}
