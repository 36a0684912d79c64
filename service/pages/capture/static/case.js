/** The REST API as a person's device uses it: one case, opened by its client secret. */

const LONGEST_WAIT_S = 8;
const PASSING = new Set([429, 502, 503, 504]);

/** A problem document (RFC 9457): what the service answers where something is wrong with the request. */
export class ProblemError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? "");
    this.status = status;
    this.code = problem.code ?? "";
  }

  /** Whether the same request may be answered otherwise in a while. */
  get passes() {
    return PASSING.has(this.status);
  }

  static async of(response) {
    return new ProblemError(response.status, await response.json().catch(() => ({})));
  }
}

export const pause = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

export class Case {
  constructor(id, secret) {
    this.url = new URL(`../v1/cases/${id}`, document.baseURI).href;
    this.headers = { Authorization: `Bearer ${secret}` };
  }

  /** The answer to a request that may be repeated, for as long as it takes. Throws a ProblemError where it is refused. */
  async ask(url, options = {}) {
    for (let wait = 0.5; ; wait = Math.min(2 * wait, LONGEST_WAIT_S)) {
      let answer = null;
      try {
        answer = await fetch(url, { ...options, headers: { ...this.headers, ...options.headers }, cache: "no-store" });
      } catch {
        // The network is away. It comes back, or the person goes.
      }
      if (answer?.ok) return answer;
      const problem = answer && (await ProblemError.of(answer));
      if (problem && !problem.passes) throw problem;
      await pause(Number(answer?.headers.get("Retry-After")) || wait);
    }
  }

  /** The case as it is now. */
  async view() {
    return (await this.ask(this.url)).json();
  }

  /** Comes up each time that something has happened to the case, until it is closed: server-sent events, read by hand
   * because the browser's own EventSource cannot send a credential. */
  async *news() {
    let last = "0";
    for (;;) {
      const answer = await this.ask(`${this.url}/events`, { headers: { "Last-Event-ID": last } });
      if (answer.status === 204) return;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      try {
        for (let text = ""; ; ) {
          const { value, done } = await reader.read();
          if (done) break;
          const lines = (text + value).split(/\r\n|\n|\r/);
          text = lines.pop();
          const ids = lines.filter((line) => line.startsWith("id:"));
          if (ids.length) {
            last = ids.at(-1).slice(3).trim();
            yield last;
          }
        }
      } catch {
        await pause(0.5); // the connection broke: ask again for what came after the last one
      } finally {
        reader.cancel().catch(() => {});
      }
    }
  }
}
