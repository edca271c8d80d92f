-- join: gives buyers their ranks, or the ones that they already have.
--
-- KEYS  1 rec, 2 spent, then per entry: the joiners' hash, the buyer's hash
-- ARGV  1 epoch, 2 batch, 3 tail of the gate, 4 end of the committed ranks, 5 cap; then per entry: buyer
-- Returns a number per entry, in their order: the rank, or
--   -1  no committed rank is left: commit more and ask again
--   -2  the buyer has all the units that the cap allows
-- A rank whose turn has passed, or whose ticket is spent and serves no live order, is replaced by a new one.
local function join(keys, args)
  local record, answer = begin(keys[1], args[1], 'join', args[2], 'rank')
  if not record then
    return answer
  end
  local tail, ranks_end, cap = tonumber(args[3]), tonumber(args[4]), tonumber(args[5])
  local next_rank = tonumber(record[1])
  local answers, given = {}, {}
  for i = 1, #args - 5 do
    local buyer = args[5 + i]
    local joiner = string.sub(buyer, 1, 10)
    local joiners, buyers = keys[2 * i + 1], keys[2 * i + 2]
    local rank = given[joiner] and given[joiner][2] or tonumber(redis.call('HGET', joiners, joiner))
    local _, live, paid = buyer_parts(redis.call('HGET', buyers, buyer))
    if rank and live == 0 and (rank < tail or redis.call('GETBIT', keys[2], rank) == 1) then
      rank = nil
    end
    if rank then
      answers[i] = rank
    elseif paid >= cap then
      answers[i] = -2
    elseif next_rank >= ranks_end then
      answers[i] = -1
    else
      answers[i] = next_rank
      given[joiner] = {joiners, next_rank}
      next_rank = next_rank + 1
    end
  end
  for joiner, entry in pairs(given) do
    redis.call('HSET', entry[1], joiner, entry[2])
  end
  redis.call('HSET', keys[1], 'rank', next_rank, 'join_batch', args[2], 'join_answer', cmsgpack.pack(answers))
  return answers
end
redis.register_function('fg_join', join)
