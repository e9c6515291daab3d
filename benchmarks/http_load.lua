-- Makes wrk send the body in the file BODY, and print the figures as JSON on the last line.
wrk.method = "POST"
wrk.body = assert(io.open(os.getenv("BODY"), "rb")):read("*a")

function done(summary, latency)
   local errors = summary.errors
   io.write(string.format(
      '{"requests_per_s": %f, "p50_ms": %f, "p99_ms": %f, "not_200": %d, "broken": %d}\n',
      summary.requests / summary.duration * 1e6, latency:percentile(50) / 1e3,
      latency:percentile(99) / 1e3, errors.status,
      errors.connect + errors.read + errors.write + errors.timeout))
end
