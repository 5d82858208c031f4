// Writes doc/errors.md from the table in src/errors.ts. With --check it only compares, and exits 1 when they differ.
// Needs a build, since it reads the compiled table.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { renderErrorsPage } from '../dist/scripts/errors-page.js';
import { ERRORS } from '../dist/src/errors.js';

const file = join(import.meta.dirname, '..', 'doc', 'errors.md');
const page = renderErrorsPage(ERRORS);

if (!process.argv.includes('--check')) {
  writeFileSync(file, page);
} else if (read() !== page) {
  console.error('doc/errors.md is not what src/errors.ts says: run `npm run build && npm run errors`.');
  process.exitCode = 1;
}

function read() {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}
