-- move: units leave a bucket for another one, or come to it. Batches of the stage `move`.
--
-- An index keeps its meaning while the epoch lasts: what leaves stays where it is and names the transfer, as a held unit
-- names its order; what comes is appended. The record's `granted` is where the indices end, not how many units there are.
-- The next take-over counts everything anew.

-- take_out: takes free units out, for a transfer that Postgres is then asked to commit. If it does not, a return that
-- names the transfer (settle, R) makes them free again. Those that were never granted go first: their numbers stay in
-- long ranges, and holds begin with the others.
-- KEYS  1 rec, 2 units, 3 free
-- ARGV  1 epoch, 2 batch, 3 transfer (16 bytes), 4 how many at most, 5 how many returned ones at most
-- Returns one string, 8 bytes a range: its first local index and how many there are, 4 bytes big-endian each.
-- Keeps: a unit is granted to one order or leaves (INV-1).
local function take_out(keys, args)
  local record, answer = begin(keys[1], args[1], 'move', args[2], 'next', 'granted')
  if not record then
    return answer
  end
  local transfer, most = args[3], tonumber(args[4])
  local next_unit, granted = tonumber(record[1]), tonumber(record[2])
  local fresh = math.min(most, granted - next_unit)
  local wanted = math.min(most - fresh, tonumber(args[5]))
  local returned = wanted > 0 and redis.call('LRANGE', keys[3], -wanted, -1) or {}

  local taken = {}
  if fresh > 0 then
    redis.call('SETRANGE', keys[2], next_unit * 16, string.rep(transfer, fresh))
    taken[1] = struct.pack('>I4I4', next_unit, fresh)
  end
  for _, unit in ipairs(returned) do
    redis.call('SETRANGE', keys[2], tonumber(unit) * 16, transfer)
    taken[#taken + 1] = struct.pack('>I4I4', tonumber(unit), 1)
  end
  if #returned > 0 then
    redis.call('LTRIM', keys[3], 0, -1 - #returned)
  end
  taken = table.concat(taken)
  redis.call('HSET', keys[1], 'next', next_unit + fresh, 'move_batch', args[2], 'move_answer', cmsgpack.pack(taken))
  return taken
end
redis.register_function('fg_take_out', take_out)

-- append: units that Postgres has accepted come to the bucket, behind the last local index.
-- KEYS  1 rec
-- ARGV  1 epoch, 2 batch, 3 where the local indices end, 4 how many come
-- Returns where they end now.
-- Keeps: what is free here is what Postgres lets the bucket sell (INV-2, INV-3).
local function append(keys, args)
  local record, answer = begin(keys[1], args[1], 'move', args[2], 'granted')
  if not record then
    return answer
  end
  if record[1] ~= args[3] then
    return redis.error_reply('GAP the local indices end at ' .. record[1])
  end
  local granted = tonumber(args[3]) + tonumber(args[4])
  redis.call('HSET', keys[1], 'granted', granted, 'move_batch', args[2], 'move_answer', cmsgpack.pack(granted))
  return granted
end
redis.register_function('fg_append', append)
