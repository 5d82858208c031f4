import { SingleBar } from 'cli-progress';
import type { Watcher } from './catalogue.ts';
import { LEASE_MS } from './state.ts';
import { count } from './text.ts';

const LINE_EVERY_MS = 1_000;

/** A bar on a terminal, else a line a second. */
export function showProgress(total: number): Watcher & { end(): void } {
  return process.stdout.isTTY ? new ProgressBar(total) : new ProgressLines(total);
}

class ProgressBar implements Watcher {
  readonly #total: number;
  readonly #bar: SingleBar;
  #done = 0;

  constructor(total: number) {
    this.#total = total;
    this.#bar = new SingleBar({
      stream: process.stdout,
      format: '  {bar} {value}/{total} files  {duration_formatted}',
      barCompleteChar: '█',
      barIncompleteChar: '░',
      gracefulExit: false,
    });
  }

  begin(done: number): void {
    sayGoingOn(done, this.#total);
    this.#done = done;
    this.#bar.start(this.#total, done);
  }

  progress(done: number): void {
    this.#done = done;
    this.#bar.update(done);
  }

  killed(signal: string): void {
    // The bar returns to where it began, so it begins again below the text.
    this.#bar.stop();
    process.stdout.write(`${killedText(signal)}\n`);
    this.#bar.start(this.#total, this.#done);
  }

  end(): void {
    this.#bar.stop();
  }
}

class ProgressLines implements Watcher {
  readonly #total: number;
  #saidAt = -LINE_EVERY_MS;
  #said = 0;

  constructor(total: number) {
    this.#total = total;
  }

  begin(done: number): void {
    sayGoingOn(done, this.#total);
    this.#said = done;
  }

  progress(done: number): void {
    const now = performance.now();
    const isDue = now - this.#saidAt >= LINE_EVERY_MS || done === this.#total;
    if (!isDue || done === this.#said) return;
    this.#saidAt = now;
    this.#said = done;
    process.stdout.write(`  ${count(done)} of ${count(this.#total)} files\n`);
  }

  killed(signal: string): void {
    process.stdout.write(`${killedText(signal)}\n`);
  }

  end(): void {
    // Every line has been ended.
  }
}

function sayGoingOn(done: number, total: number): void {
  if (done > 0) process.stdout.write(`Going on with ${count(done)} of ${count(total)} files done.\n`);
}

function killedText(signal: string): string {
  const seconds = LEASE_MS / 1_000;
  return `  The worker was killed (${signal}); another one goes on, and takes over what it had in hand when its lease of ${seconds} s has run out.`;
}
