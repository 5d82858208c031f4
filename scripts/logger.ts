import { pino } from 'pino';
import type { DestinationStream, Logger } from 'pino';
import type { CommandLogLevel } from './command-line.ts';

/** A name that the type checker does not follow: the package is the user's choice. */
const PRETTY: string = 'pino-pretty';
const STANDARD_ERROR = 2;

/** JSON lines on standard error; readable ones on a terminal where pino-pretty is installed. */
export async function createLogger(level: CommandLogLevel): Promise<Logger> {
  const stream = process.stderr.isTTY ? await prettyStream() : undefined;
  return pino({ level }, stream ?? pino.destination({ dest: STANDARD_ERROR, sync: true }));
}

async function prettyStream(): Promise<DestinationStream | undefined> {
  try {
    const { default: pretty } = (await import(PRETTY)) as {
      default: (options: object) => DestinationStream;
    };
    return pretty({ destination: STANDARD_ERROR, sync: true });
  } catch {
    return undefined;
  }
}
