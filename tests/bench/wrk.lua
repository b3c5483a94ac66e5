-- Sends the bodies of a file, each after a line with its size, in turn, with the headers of another; prints what wrk measured as JSON.
local requests, at = {}, 0

function init(args)
  local headers = {}
  for line in io.lines(args[2]) do
    local name, value = line:match("^([^:]+): (.*)$")
    headers[name] = value
  end
  local file = io.open(args[1], "rb")
  for size in function() return file:read("*l") end do
    requests[#requests + 1] = wrk.format("POST", nil, headers, file:read(tonumber(size)))
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency)
  local failed = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %f, "failed": %d, "p50": %f, "p95": %f, "p99": %f}\n',
    summary.requests, summary.duration / 1e6,
    failed.connect + failed.read + failed.write + failed.status + failed.timeout,
    latency:percentile(50) / 1e6, latency:percentile(95) / 1e6, latency:percentile(99) / 1e6))
end
