/** What the page tells of one code. */
export interface ErrorEntry {
  readonly cause: string;
  readonly mend: string;
}

/** The sections of the page, each with the code that begins it in the table. */
const SECTIONS: Readonly<Record<string, string>> = {
  CONFIG_NOT_FOUND: 'Configuration and wiring',
  TASK_NAME_INVALID: 'Tasks',
  ENQUEUE_FAILED: 'Enqueueing',
  NOT_INITIALIZED: 'Brokers',
  TASK_FAILED: 'Running',
  WORKER_OPTIONS_INVALID: 'Worker and command line',
};

const HEAD = `# Errors

<!-- Generated from src/errors.ts by \`npm run errors\`; change the table there. -->

Every error that Signalbox throws has a \`code\` from this page, a \`message\` that says what happened, a \`place\` (task, queue, worker,
broker, operation, as far as they are known) and, where another error led to it, that one as its \`cause\`. \`error.likelyCause\` and
\`error.mend\` hold what this page says. Test the code rather than the class: \`isSignalboxError(error) && error.code === 'QUEUE_UNKNOWN'\`.
`;

/** The whole of doc/errors.md. Throws when the table no longer has the code that begins a section. */
export function renderErrorsPage(errors: Readonly<Record<string, ErrorEntry>>): string {
  const missing = Object.keys(SECTIONS).filter((code) => !Object.hasOwn(errors, code));
  if (missing.length > 0) throw new Error(`No such code begins a section any more: ${missing.join(', ')}`);
  const parts = Object.entries(errors).map(([code, { cause, mend }]) => {
    const section = SECTIONS[code];
    const heading = section === undefined ? '' : `\n## ${section}\n`;
    return `${heading}\n### ${code}\n\n- **Likely cause:** ${cause}\n- **What to do:** ${mend}\n`;
  });
  return HEAD + parts.join('');
}
