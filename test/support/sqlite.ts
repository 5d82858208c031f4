import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Persistence } from '../../brokers/rds/index.ts';

export interface SqliteFile {
  readonly folder: string;
  readonly filename: string;
  /** A persistence on the file, closed with it. */
  readonly open: (onStatement?: (sql: string) => void) => Persistence;
  readonly remove: () => Promise<void>;
}

/** A file for a database in a folder of its own, which is removed with everything in it. */
export async function sqliteFile(): Promise<SqliteFile> {
  const folder = await mkdtemp(join(tmpdir(), 'signalbox-'));
  const filename = join(folder, 'signalbox.sqlite');
  const opened: Persistence[] = [];
  return {
    folder,
    filename,
    open: (onStatement) => {
      const persistence = new Persistence({
        client: 'sqlite',
        connection: { filename },
        ...(onStatement === undefined ? {} : { onStatement }),
      });
      opened.push(persistence);
      return persistence;
    },
    remove: async () => {
      for (const persistence of opened) await persistence.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}
