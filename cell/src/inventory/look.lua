-- look: who has some units, for the audit. It changes nothing.
--
-- KEYS  1 rec, 2 units, 3 free
-- ARGV  1 epoch, 2 run: the server's own, 3 how many returned units are listed at most, 4 from which one of them on,
--       5 runs of local indices: pairs of the first and the count (4 bytes each, big-endian)
-- Returns the last hold batch, the last settle batch, next, where the indices end, how many units were returned, the local
-- indices of those that are listed, and for each run the orders (16 bytes a unit; what is missing at the end is zeros).
-- Refuses a record that is not open, of another epoch, or that was loaded into another run of a server: a Redis that came
-- back with something older on its disk is its keeper's to notice, and no difference (INV-3).
local function look(keys, args)
  local rec = redis.call('HMGET', keys[1], 'epoch', 'open', 'run', 'hold_batch', 'settle_batch', 'next', 'granted')
  if not rec[1] or rec[2] ~= '1' or rec[3] ~= args[2] then
    return redis.error_reply('MISSING no open record of this bucket in this run')
  end
  if rec[1] ~= args[1] then
    return redis.error_reply('STALE the epoch is ' .. rec[1])
  end
  local from = tonumber(args[4])
  local count = redis.call('LLEN', keys[3])
  local listed = redis.call('LRANGE', keys[3], from, from + tonumber(args[3]) - 1)
  local answer = {tonumber(rec[4] or '0'), tonumber(rec[5] or '0'), tonumber(rec[6]), tonumber(rec[7]), count, listed}
  for at = 1, #args[5], 8 do
    local first, length = struct.unpack('>I4I4', args[5], at)
    answer[#answer + 1] = redis.call('GETRANGE', keys[2], first * 16, (first + length) * 16 - 1)
  end
  return answer
end
redis.register_function{function_name = 'fg_look', callback = look, flags = {'no-writes'}}
