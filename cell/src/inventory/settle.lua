-- settle: follows what Postgres has committed about orders: their units return, or are paid for.
--
-- KEYS  1 rec, 2 units, 3 free, 4 buyers
-- ARGV  1 epoch, 2 batch; then per entry: what, buyer, order, rank, local indices (4 bytes big-endian each), where what is
--         R  returned: the order ended
--         U  undone: the hold was never committed, so its ticket is not spent either
--         P  paid: the units stay with the order, the buyer's live units become paid ones
--         F  refunded: a paid order's units return, and are the buyer's paid ones no more
-- Returns how many units became free. A unit that does not name the order is left alone, so that a return which comes
-- twice, or late, does nothing (INV-1, INV-3).
local function settle(keys, args)
  local record, answer = begin(keys[1], args[1], 'settle', args[2])
  if not record then
    return answer
  end
  local freed = 0
  for i = 1, (#args - 2) / 5 do
    local at = 5 * i - 2
    local what, buyer, order, rank, indices = unpack(args, at, at + 4)
    local returned = 0
    if what ~= 'P' then
      for n = 1, #indices, 4 do
        local unit = struct.unpack('>I4', indices, n)
        if redis.call('GETRANGE', keys[2], unit * 16, unit * 16 + 15) == order then
          redis.call('SETRANGE', keys[2], unit * 16, NO_ORDER)
          redis.call('RPUSH', keys[3], unit)
          returned = returned + 1
        end
      end
    end
    freed = freed + returned
    local live_order, live, paid, spent = buyer_parts(redis.call('HGET', keys[4], buyer))
    if what == 'F' then
      redis.call('HSET', keys[4], buyer, buyer_value(live_order, live, math.max(paid - returned, 0), spent))
    elseif live_order == order then
      if what == 'P' then
        paid = paid + live
      elseif what == 'U' then
        spent = tonumber(rank)
      end
      redis.call('HSET', keys[4], buyer, buyer_value(NO_ORDER, 0, paid, spent))
    end
  end
  redis.call('HSET', keys[1], 'settle_batch', args[2], 'settle_answer', cmsgpack.pack(freed))
  return freed
end
redis.register_function('fg_settle', settle)
