/** A job on the server, followed to its end: what the page asks for beyond searching. */

import { ROOT, local, post } from "./api";

export interface JobFile {
  name: string;
  bytes: number;
  href: string;
  tilejson?: string;
}

export interface Job {
  id: string;
  state: "queued" | "running" | "done" | "failed" | "cancelled" | string;
  progress: number;
  files: JobFile[];
  problem: { detail: string } | null;
}

/** Where in a scene words hold. */
export function localize(collection: string, scene: string, words: string): Promise<Job> {
  return post<Job>("tasks/localize", { collection, scene, text: [words] });
}

export const running = (job: Job) => job.state === "queued" || job.state === "running";

/** Tell each change until the job has ended; the returned function stops listening. */
export function follow(job: Job, onChange: (job: Job) => void): () => void {
  const events = new EventSource(`${ROOT}jobs/${job.id}/events`);
  events.addEventListener("job", (event) => {
    const now = JSON.parse((event as MessageEvent<string>).data) as Job;
    if (!running(now)) events.close();
    onChange(now);
  });
  return () => events.close();
}

export async function cancel(job: Job): Promise<void> {
  await fetch(`${ROOT}jobs/${job.id}`, { method: "DELETE", credentials: "same-origin" });
}

export function fileOf(job: Job, name: string): JobFile | undefined {
  const file = job.files.find((candidate) => candidate.name === name);
  return file && { ...file, href: local(file.href), ...(file.tilejson ? { tilejson: local(file.tilejson) } : {}) };
}
