import { setTimeout as sleep } from 'node:timers/promises';
import { BrokerError } from '../../src/errors.ts';

/** What happens to a call instead of what was asked for. */
export type Fault =
  /** It never reaches the storage. */
  | { readonly kind: 'reject-before'; readonly error?: Error }
  /** It is done, and its caller does not know. */
  | { readonly kind: 'reject-after'; readonly error?: Error }
  /** It waits for `release`, then is done. */
  | { readonly kind: 'hang' }
  /** It is done two times; the caller gets the second answer, as if the first had been lost on its way. */
  | { readonly kind: 'twice' }
  | { readonly kind: 'delay'; readonly ms: number };

/** Numbers of calls of the operation, from 1. Absent: every call. */
export type Which = number | ((call: number) => boolean) | undefined;

export type Side = 'before' | 'after';

interface Rule {
  readonly operation: string;
  readonly fault: Fault;
  readonly hits: (call: number) => boolean;
}

/** They answer at once, and never fail for the storage's sake. */
const SYNCHRONOUS: readonly string[] = ['ledger', 'assertOpen', 'join'];

/** They change nothing, so that to die before, in or after them is the same: they are no points. */
const READING: readonly string[] = ['ready', 'count', 'owed', 'search', 'stats', 'lines'];

/**
 * Faults for any of the contracts, since every method of theirs returns a promise. Operations are named with the part
 * that they belong to, as in `log.settle`. Several parts may share one of these, and then the calls of all are counted.
 */
export class Faults {
  readonly #rules: Rule[] = [];
  readonly #calls = new Map<string, number>();
  readonly #history: string[] = [];
  readonly #hanging = new Set<() => void>();
  #death: { readonly point: number; readonly side: Side } | undefined;
  #points = 0;
  #isArmed = true;

  /** The same object, but for the faults. What its `ledger` gives has them too, as the part `ledger`. */
  wrap<T extends object>(part: string, target: T): T {
    return new Proxy(target, {
      get: (_, name) => {
        const value: unknown = Reflect.get(target, name, target);
        if (typeof value !== 'function' || typeof name !== 'string') return value;
        if (name === 'ledger') return (...args: unknown[]) => this.#wrapLedger(invoke(target, value, args));
        if (SYNCHRONOUS.includes(name)) return value.bind(target) as unknown;
        return (...args: unknown[]) =>
          this.#call(part, name, () => invoke(target, value, args) as Promise<unknown>);
      },
    });
  }

  /** From now on calls of the operation fail so; of several rules for one call the newest counts. */
  on(operation: string, fault: Fault, which?: Which): this {
    const hits = typeof which === 'number' ? (call: number): boolean => call === which : which;
    this.#rules.unshift({ operation, fault, hits: hits ?? ((): boolean => true) });
    return this;
  }

  /** Ends the rules for an operation. */
  clear(operation: string): this {
    this.#rules.splice(0, Infinity, ...this.#rules.filter((rule) => rule.operation !== operation));
    return this;
  }

  /** Whatever hangs now goes on. */
  release(): void {
    for (const goOn of this.#hanging) goOn();
    this.#hanging.clear();
  }

  get hanging(): number {
    return this.#hanging.size;
  }

  /** How often the operation was called. */
  count(operation: string): number {
    return this.#calls.get(operation) ?? 0;
  }

  /** The operations in the order of their calls. */
  get history(): readonly string[] {
    return this.#history;
  }

  /** Kills this process at the point of that number, from 1; calls that may write and `point`s are counted from now on. */
  dieAt(point: number, side: Side): this {
    this.#death = { point, side };
    this.#points = 0;
    return this;
  }

  /** Points passed since `dieAt`. */
  get points(): number {
    return this.#points;
  }

  /** No more points are counted, and nobody dies. */
  disarm(): void {
    this.#isArmed = false;
  }

  /** A point between calls at which this process may die. It has one side only. */
  point(): void {
    const point = this.#nextPoint();
    this.#dieIf(point, 'before');
    this.#dieIf(point, 'after');
  }

  #wrapLedger(ledger: unknown): unknown {
    return typeof ledger === 'object' && ledger !== null ? this.wrap('ledger', ledger) : undefined;
  }

  async #call(part: string, name: string, work: () => Promise<unknown>): Promise<unknown> {
    const operation = `${part}.${name}`;
    const call = this.count(operation) + 1;
    this.#calls.set(operation, call);
    this.#history.push(operation);
    const point = READING.includes(name) ? 0 : this.#nextPoint();
    this.#dieIf(point, 'before');
    const rule = this.#rules.find((one) => one.operation === operation && one.hits(call));
    const answer = await this.#withFault(rule?.fault, operation, work);
    this.#dieIf(point, 'after');
    return answer;
  }

  async #withFault(
    fault: Fault | undefined,
    operation: string,
    work: () => Promise<unknown>,
  ): Promise<unknown> {
    switch (fault?.kind) {
      case undefined:
        return work();
      case 'reject-before':
        throw fault.error ?? unavailable(operation, 'nothing was done');
      case 'reject-after':
        await work();
        throw fault.error ?? unavailable(operation, 'it was done all the same');
      case 'hang':
        await new Promise<void>((resolve) => this.#hanging.add(resolve));
        return work();
      case 'twice':
        await work();
        return work();
      case 'delay':
        await sleep(fault.ms);
        return work();
    }
  }

  #nextPoint(): number {
    if (this.#isArmed) this.#points += 1;
    return this.#points;
  }

  #dieIf(point: number, side: Side): void {
    if (!this.#isArmed || this.#death?.point !== point || this.#death.side !== side) return;
    process.kill(process.pid, 'SIGKILL');
  }
}

/** What a driver says when its storage does not answer. */
export function unavailable(operation: string, what: string): BrokerError {
  return new BrokerError('BROKER_UNAVAILABLE', `The storage did not answer ${operation}; ${what}.`);
}

/** A broker that offers no ledger of its own, so that one has to be composed. */
export function withoutLedger<T extends object>(broker: T): T {
  return new Proxy(broker, {
    get: (target, name) => {
      const value: unknown = Reflect.get(target, name, target);
      if (name === 'ledger') return undefined;
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

function invoke(target: object, method: object, args: readonly unknown[]): unknown {
  return Reflect.apply(method as (...given: unknown[]) => unknown, target, args);
}
