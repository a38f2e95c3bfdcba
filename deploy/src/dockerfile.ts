/**
 * What a Dockerfile must keep to, beside being one.
 */
import { type Dockerfile, DockerfileParser, type From, type JSONInstruction } from 'dockerfile-ast';
import { ValidationSeverity, validate } from 'dockerfile-utils';

/** An exact version, or a digest. */
const PINNED = /(:\d+\.\d+\.\d+[\w.-]*|@sha256:[0-9a-f]{64})$/;
const SECRET = /secret|token|passw|credential|private|(api|access|admin|metrics|signing)_?key/i;

/** What is wrong with it, a line each; the lines count from 1. */
export function lintDockerfile(text: string): string[] {
  const problems = validate(text, { instructionCasing: ValidationSeverity.ERROR }).map(
    ({ message, range }) => `${range.start.line + 1}: ${message}`,
  );
  const file = DockerfileParser.parse(text);
  return [...problems, ...bases(file), ...secrets(file), ...lastStage(file)];
}

function bases(file: Dockerfile): string[] {
  const args = new Map(
    file.getInitialARGs().map((arg) => [arg.getProperty()?.getName(), arg.getProperty()?.getValue()]),
  );
  const stages = new Set<string | null>();
  const problems: string[] = [];
  for (const from of file.getFROMs()) {
    const image = from.getImage() ?? '';
    const resolved = image.replace(/\$\{(\w+)\}|\$(\w+)/g, (_, a: string, b: string) => args.get(a ?? b) ?? '');
    if (!stages.has(image) && !PINNED.test(resolved))
      problems.push(`${lineOf(from)}: base ${resolved} is not pinned; give an exact version or a digest`);
    stages.add(from.getBuildStage());
  }
  return problems;
}

function secrets(file: Dockerfile): string[] {
  const named = [
    ...file.getENVs().flatMap((env) => env.getProperties()),
    ...file.getARGs().map((arg) => arg.getProperty()),
  ];
  return named.flatMap((property) => {
    const name = property?.getName() ?? '';
    if (property == null || !SECRET.test(name)) return [];
    return [
      `${property.getRange().start.line + 1}: ${name} looks like a secret; an image keeps it for everybody who has the image`,
    ];
  });
}

function lastStage(file: Dockerfile): string[] {
  const from = file.getFROMs().at(-1);
  if (from === undefined) return ['1: no stage'];
  const own = file.getInstructions().filter((one) => one.getRange().start.line >= from.getRange().start.line);
  const named = (keyword: string) => own.filter((one) => one.getKeyword() === keyword);
  const problems: string[] = [];
  const user = named('USER').at(-1)?.getArgumentsContent() ?? '';
  if (!/^[1-9]\d*(:[1-9]\d*)?$/.test(user))
    problems.push(
      `${lineOf(from)}: USER is "${user}"; give a number above 0, so that a cluster can see that it isn't root`,
    );
  if (named('HEALTHCHECK').length === 0) problems.push(`${lineOf(from)}: no HEALTHCHECK`);
  const entry = named('ENTRYPOINT').at(-1) as JSONInstruction | undefined;
  if (entry === undefined || entry.getOpeningBracket() === null)
    problems.push(`${lineOf(from)}: no ENTRYPOINT in JSON; a shell in between would keep signals to itself`);
  if (
    named('RUN').some(
      (run) =>
        /apt-get install/.test(run.getArgumentsContent() ?? '') &&
        !/rm -rf \/var\/lib\/apt\/lists/.test(run.getArgumentsContent() ?? ''),
    )
  )
    problems.push(`${lineOf(from)}: package lists are left in a layer`);
  return problems;
}

function lineOf(instruction: From): number {
  return instruction.getRange().start.line + 1;
}
