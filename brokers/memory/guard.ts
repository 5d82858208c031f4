import type { Clock } from '../../src/environment.ts';
import { BrokerError } from '../../src/errors.ts';
import type { Transaction } from '../../src/store.ts';

export interface InMemoryOptions {
  /** Judges leases, delays and claims. Default: the clock of the system. */
  readonly clock?: Clock;
}

export function closedError(what: string, operation: string): BrokerError {
  return new BrokerError('BROKER_CLOSED', `The ${what} is closed; ${operation} was refused.`, {
    place: { broker: 'memory', operation },
  });
}

/** Memory takes part in no transaction, and to pretend otherwise would break the caller's promise. */
export function refuseTransaction(what: string, operation: string, tx: Transaction | undefined): void {
  if (tx === undefined) return;
  throw new BrokerError(
    'TRANSACTION_UNSUPPORTED',
    `The ${what} cannot join the transaction that was passed to ${operation}.`,
    { place: { broker: 'memory', operation } },
  );
}
