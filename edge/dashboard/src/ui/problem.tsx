/** What went wrong, as the edge says it. Its room is there before it is. */
export function ProblemLine({ text }: { readonly text: string | undefined }) {
  return (
    <p class="problem" role="alert">
      {text}
    </p>
  );
}
