-- hold: grants the right to try to hold units; Postgres decides.
--
-- KEYS  1 rec, 2 units, 3 free, 4 spent, then the buyer's hash of each entry
-- ARGV  1 epoch, 2 batch, 3 cap; then per entry: buyer, order, rank, quantity
-- Returns an answer per entry, in their order; an entry sees what the entries before it did:
--   'G' .. paid .. 4 bytes big-endian a unit
--                                      granted: the buyer's paid units (a byte), and the units' local indices
--   'L' .. order                       the buyer has a live order already
--   'S'                                the ticket is spent
--   'C' .. units                       it would exceed the cap: this many the buyer has
--   'N'                                too few units are free
-- Keeps: a unit is granted to one order (INV-1), a buyer stays below the cap (INV-4), a ticket serves one order (INV-7).
-- All is decided before anything is written.
local function hold(keys, args)
  local record, answer = begin(keys[1], args[1], 'hold', args[2], 'next', 'granted')
  if not record then
    return answer
  end
  local cap, next_unit, granted = tonumber(args[3]), tonumber(record[1]), tonumber(record[2])
  local entries = (#args - 3) / 4
  local spent_at = {'BITFIELD_RO', keys[4]}
  local wanted = 0
  for i = 1, entries do
    local at = 4 * i
    spent_at[#spent_at + 1] = 'GET'
    spent_at[#spent_at + 1] = 'u1'
    spent_at[#spent_at + 1] = args[at + 2]
    wanted = wanted + tonumber(args[at + 3])
  end
  local spent = redis.call(unpack(spent_at))
  local returned = redis.call('LRANGE', keys[3], 0, wanted - 1)
  local used, fresh, first_fresh = 0, {}, next_unit
  local answers, buyers, spending, reused = {}, {}, {}, {}
  local now_spent = {}
  for i = 1, entries do
    local at = 4 * i
    local buyer, order, rank, quantity = args[at], args[at + 1], args[at + 2], tonumber(args[at + 3])
    local value = buyers[buyer] and buyers[buyer][2] or redis.call('HGET', keys[4 + i], buyer)
    local live_order, live, paid = buyer_parts(value)
    if live > 0 then
      answers[i] = 'L' .. live_order
    elseif spent[i] == 1 or now_spent[rank] then
      answers[i] = 'S'
    elseif paid + quantity > cap then
      answers[i] = 'C' .. string.char(paid)
    elseif (#returned - used) + (granted - next_unit) < quantity then
      answers[i] = 'N'
    else
      local units = {}
      for n = 1, quantity do
        local unit
        if used < #returned then
          used = used + 1
          unit = tonumber(returned[used])
          reused[#reused + 1] = {unit, order}
        else
          unit = next_unit
          next_unit = next_unit + 1
          fresh[#fresh + 1] = order
        end
        units[n] = struct.pack('>I4', unit)
      end
      answers[i] = 'G' .. string.char(paid) .. table.concat(units)
      buyers[buyer] = {keys[4 + i], order .. string.char(quantity, paid)}
      now_spent[rank] = true
      spending[#spending + 1] = 'SET'
      spending[#spending + 1] = 'u1'
      spending[#spending + 1] = rank
      spending[#spending + 1] = 1
    end
  end

  if #fresh > 0 then
    redis.call('SETRANGE', keys[2], first_fresh * 16, table.concat(fresh))
  end
  for _, pair in ipairs(reused) do
    redis.call('SETRANGE', keys[2], pair[1] * 16, pair[2])
  end
  if used > 0 then
    redis.call('LTRIM', keys[3], used, -1)
  end
  for buyer, entry in pairs(buyers) do
    redis.call('HSET', entry[1], buyer, entry[2])
  end
  if #spending > 0 then
    redis.call('BITFIELD', keys[4], unpack(spending))
  end
  redis.call('HSET', keys[1], 'next', next_unit, 'hold_batch', args[2], 'hold_answer', cmsgpack.pack(answers))
  return answers
end
redis.register_function('fg_hold', hold)
