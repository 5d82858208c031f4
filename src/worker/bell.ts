import type { Clock } from '../environment.ts';

/** Ends a wait. A ring that comes while nobody waits is remembered, once. */
export class Bell {
  readonly #clock: Clock;
  #rung = false;
  #waiting: AbortController | undefined;

  constructor(clock: Clock) {
    this.#clock = clock;
  }

  ring(): void {
    this.#rung = true;
    this.#waiting?.abort();
  }

  /** Whether it rang within `ms` milliseconds; at once when it has rung since the last wait. */
  async wait(ms: number): Promise<boolean> {
    if (!this.#rung) {
      this.#waiting = new AbortController();
      await this.#clock.sleep(ms, this.#waiting.signal);
      this.#waiting = undefined;
    }
    const rang = this.#rung;
    this.#rung = false;
    return rang;
  }
}
