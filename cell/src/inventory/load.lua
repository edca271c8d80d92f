-- load_*: a take-over writes what Postgres says under the new epoch, in slices, and opens the record last (INV-3, INV-8).

-- load_begin: closes the bucket to everybody and names the new epoch.
-- KEYS  1 rec
-- ARGV  1 epoch, 2 granted, 3 next (local index of the first unit never granted), 4 rank (the first not given out, for
--       all that the keeper knows), 5 hold batch, 6 settle batch, 7 join batch
-- Returns the epoch that stood there and its first rank not given out, which then holds; 0 and -1 when none did.
-- Refuses an older epoch than that.
redis.register_function('fg_load_begin', function(keys, args)
  local values = redis.call('HMGET', keys[1], 'epoch', 'rank')
  local before = tonumber(values[1] or '0')
  if before > tonumber(args[1]) then
    return redis.error_reply('STALE the epoch is ' .. before)
  end
  redis.call('DEL', keys[1])
  redis.call('HSET', keys[1], 'epoch', args[1], 'open', 0, 'granted', args[2], 'next', args[3], 'rank', values[2] or args[4],
    'hold_batch', args[5], 'settle_batch', args[6], 'join_batch', args[7])
  return {before, tonumber(values[2] or '-1')}
end)

-- Whether the record is closed and of this epoch, as every slice needs it.
local function loading(key, epoch)
  local values = redis.call('HMGET', key, 'epoch', 'open')
  return values[1] == epoch and values[2] == '0'
end
local NOT_LOADING = 'STALE the bucket is not being loaded under this epoch'

-- load_buyers: who has which units, and has spent which tickets.
-- KEYS  1 rec, 2 units, 3 buyers
-- ARGV  1 epoch; then per entry: buyer, live order or zeros, live, paid, spent, pairs of order (16 bytes) and local index (4)
redis.register_function('fg_load_buyers', function(keys, args)
  if not loading(keys[1], args[1]) then
    return redis.error_reply(NOT_LOADING)
  end
  for i = 1, (#args - 1) / 6 do
    local at = 6 * i - 4
    local buyer, order, live, paid, spent, pairs_of = unpack(args, at, at + 5)
    for n = 1, #pairs_of, 20 do
      local unit = struct.unpack('>I4', pairs_of, n + 16)
      redis.call('SETRANGE', keys[2], unit * 16, string.sub(pairs_of, n, n + 15))
    end
    redis.call('HSET', keys[3], buyer, buyer_value(order, tonumber(live), tonumber(paid), tonumber(spent)))
  end
  return redis.status_reply('OK')
end)

-- load_free: returned units.
-- KEYS  1 rec, 2 free
-- ARGV  1 epoch; then local indices
redis.register_function('fg_load_free', function(keys, args)
  if not loading(keys[1], args[1]) then
    return redis.error_reply(NOT_LOADING)
  end
  for i = 2, #args do
    redis.call('RPUSH', keys[2], args[i])
  end
  return redis.status_reply('OK')
end)

-- load_open: everything is there; the bucket serves.
-- KEYS  1 rec
-- ARGV  1 epoch, 2 run: the server's own, so that a record which comes back in another run can be told
redis.register_function('fg_load_open', function(keys, args)
  if not loading(keys[1], args[1]) then
    return redis.error_reply(NOT_LOADING)
  end
  redis.call('HSET', keys[1], 'open', 1, 'run', args[2])
  return redis.status_reply('OK')
end)
