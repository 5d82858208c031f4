import { accessSync, constants, existsSync } from 'node:fs';
import { dirname } from 'node:path';
import { BrokerError, errorMessage, isSignalboxError } from '../../src/errors.ts';
import type { ErrorCode } from '../../src/errors.ts';

/** SQLite's primary result codes, see https://sqlite.org/rescode.html. */
const PRIMARY_CODES: Readonly<Record<string, number>> = {
  SQLITE_ERROR: 1,
  SQLITE_BUSY: 5,
  SQLITE_LOCKED: 6,
  SQLITE_READONLY: 8,
  SQLITE_IOERR: 10,
  SQLITE_FULL: 13,
  SQLITE_CANTOPEN: 14,
};

/** The result code of any SQLite driver's error; undefined when it is none. Extended codes where the driver gives them. */
export function sqliteCode(error: unknown): number | undefined {
  if (!(error instanceof Error)) return undefined;
  const { errcode, errno, code } = error as { errcode?: unknown; errno?: unknown; code?: unknown };
  if (typeof errcode === 'number') return errcode;
  if (typeof code !== 'string' || !code.startsWith('SQLITE_')) return undefined;
  if (code === 'SQLITE_BUSY_SNAPSHOT') return 517;
  if (typeof errno === 'number') return errno;
  const primary = Object.keys(PRIMARY_CODES).find((name) => code.startsWith(name));
  return primary === undefined ? undefined : PRIMARY_CODES[primary];
}

/** The error of a statement in our words. `filename` is undefined when the connection is the user's own. */
export function sqliteFailure(error: unknown, id: string, filename: string | undefined): Error {
  if (isSignalboxError(error)) return error;
  const code = failureCode(error, filename);
  return new BrokerError(code, `Database "${id}": ${saying(code, error)}`, {
    cause: error,
    place: { broker: id },
  });
}

function failureCode(error: unknown, filename: string | undefined): ErrorCode {
  const message = errorMessage(error);
  switch ((sqliteCode(error) ?? 0) & 0xff) {
    case PRIMARY_CODES.SQLITE_ERROR:
      return /no such (table|column)|has no column/.test(message) ? 'NOT_INITIALIZED' : 'BROKER_FAILED';
    case PRIMARY_CODES.SQLITE_BUSY:
    case PRIMARY_CODES.SQLITE_LOCKED:
    case PRIMARY_CODES.SQLITE_IOERR:
    case PRIMARY_CODES.SQLITE_FULL:
      return 'BROKER_UNAVAILABLE';
    case PRIMARY_CODES.SQLITE_READONLY:
      return 'DATABASE_READ_ONLY';
    case PRIMARY_CODES.SQLITE_CANTOPEN:
      return filename === undefined ? 'BROKER_FAILED' : whyNotOpened(filename);
    default:
      return isPoolTimeout(error) ? 'BROKER_UNAVAILABLE' : 'BROKER_FAILED';
  }
}

function whyNotOpened(filename: string): ErrorCode {
  const folder = dirname(filename);
  if (!existsSync(folder)) return 'DATABASE_MISSING';
  try {
    accessSync(existsSync(filename) ? filename : folder, constants.W_OK);
    return 'BROKER_FAILED';
  } catch {
    return 'DATABASE_READ_ONLY';
  }
}

function isPoolTimeout(error: unknown): boolean {
  return error instanceof Error && error.name === 'KnexTimeoutError';
}

const SAYINGS: Partial<Record<ErrorCode, string>> = {
  NOT_INITIALIZED: 'its tables have not been created yet, run initialize-queue',
  DATABASE_MISSING: 'the folder of its file does not exist',
  DATABASE_READ_ONLY: 'it cannot be written',
  BROKER_UNAVAILABLE: 'it does not answer',
};

/** knex puts the whole statement, with its values, before the message: that stays in the cause. */
function saying(code: ErrorCode, error: unknown): string {
  const message = errorMessage(error);
  const reason = message.slice(message.lastIndexOf(' - ') + 1).replace(/^- /, '');
  return `${SAYINGS[code] ?? 'a statement failed'} (${reason}).`;
}
