/** Client of the REST API for the person's device: one case, with its client secret. */

const LONGEST_WAIT_S = 8;
const TEMPORARY = new Set([429, 502, 503, 504]);

/** A problem document (RFC 9457): the service's answer to a request that failed. */
export class ProblemError extends Error {
  constructor(status, problem) {
    super(problem.detail ?? "");
    this.status = status;
    this.code = problem.code ?? "";
  }

  /** Whether the same request may succeed later. */
  get isTemporary() {
    return TEMPORARY.has(this.status);
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

  /** Sends a repeatable request until it succeeds. Throws a ProblemError if the service refuses it. */
  async request(url, options = {}) {
    for (let wait = 0.5; ; wait = Math.min(2 * wait, LONGEST_WAIT_S)) {
      let answer = null;
      try {
        answer = await fetch(url, { ...options, headers: { ...this.headers, ...options.headers }, cache: "no-store" });
      } catch {
        // The network is down: try again until it is back.
      }
      if (answer?.ok) return answer;
      const problem = answer && (await ProblemError.of(answer));
      if (problem && !problem.isTemporary) throw problem;
      await pause(Number(answer?.headers.get("Retry-After")) || wait);
    }
  }

  /** The current state of the case. */
  async view() {
    return (await this.request(this.url)).json();
  }

  /** Yields the id of each event of the case until it is closed. Reads the server-sent events itself, because the
   * browser's EventSource cannot send a credential. */
  async *events() {
    let last = "0";
    for (;;) {
      const answer = await this.request(`${this.url}/events`, { headers: { "Last-Event-ID": last } });
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
        await pause(0.5); // the connection was lost: continue after the last event
      } finally {
        reader.cancel().catch(() => {});
      }
    }
  }
}
