-- One commit to one partition, which is the hash KEYS[1]: a field for each key, whose value is the record as store.Record.Marshal
-- writes it (version, 8 bytes; expiry in milliseconds, 8 bytes, big endian, zero for never; value).
--
-- ARGV: now and slack in milliseconds, the channel (empty: tell nobody) and the message for it, "1" if this commit may have been
-- made before by an attempt whose answer was lost; then for each change "p" (put), "d" (delete) or "e" (expect), the field, the
-- version that must be there ("" for none, "*" for any), and the new record.
--
-- Answers 1 when the commit is made, 0 when a record is at another version, 2 when nobody can tell whether it was made before.
-- A put is recognised by its version, which the client has drawn at random for this commit.

local APPLIED, CONFLICT, UNKNOWN = 1, 0, 2

local hash = KEYS[1]
local now, slack = tonumber(ARGV[1]), tonumber(ARGV[2])
local channel, message = ARGV[3], ARGV[4]
local again = ARGV[5] == '1'
local first = 6

local function version(record)
  return string.sub(record, 1, 8)
end

local function expiry(record)
  local ms = 0
  for i = 9, 16 do
    ms = ms * 256 + string.byte(record, i)
  end
  return ms
end

local old, writes, applied, untouched = {}, false, false, false
for i = first, #ARGV, 4 do
  local op, field, want, new = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  writes = writes or op ~= 'e'
  local record = redis.call('HGET', hash, field)
  if record then
    if #record < 16 then
      return redis.error_reply('ERR damaged record in ' .. hash)
    end
    old[i] = record
    applied = applied or op == 'p' and version(record) == version(new)
    untouched = untouched or op ~= 'e' and version(record) == want
  end
end

if applied then
  return APPLIED
end
-- A record that the commit would have replaced or removed is still there, and versions don't come back: it was not made before.
-- Without such a record it may have been made, and its records replaced since. Making it again would undo that.
if again and writes and not untouched then
  return UNKNOWN
end

for i = first, #ARGV, 4 do
  local want, there = ARGV[i + 2], ''
  if old[i] then
    local ms = expiry(old[i])
    if ms == 0 or ms > now then
      there = version(old[i])
    end
  end
  if want ~= '*' and want ~= there then
    return CONFLICT
  end
end

-- First of all what the user may not be allowed to do, or what a full server refuses: a script that fails is not undone.
if channel ~= '' then
  redis.call('PUBLISH', channel, message)
end
if not writes then
  return APPLIED
end
local ttl = redis.call('PTTL', hash) -- -2: no such hash, -1: it stays
local latest, stays, stayed = 0, false, false
for i = first, #ARGV, 4 do
  if ARGV[i] == 'p' then
    redis.call('HSET', hash, ARGV[i + 1], ARGV[i + 3])
    local ms = expiry(ARGV[i + 3])
    stays = stays or ms == 0
    latest = math.max(latest, ms)
  end
  if ARGV[i] ~= 'e' and old[i] then
    stayed = stayed or expiry(old[i]) == 0
  end
end
for i = first, #ARGV, 4 do
  if ARGV[i] == 'd' and old[i] then
    redis.call('HDEL', hash, ARGV[i + 1])
  end
end

-- A few fields, picked at random, are removed if they have expired by any clock. The hash as a whole goes when the last of its
-- records has: so nothing is left of partitions that nobody writes to any more.
local some = redis.call('HRANDFIELD', hash, 8, 'WITHVALUES')
for i = 1, #some, 2 do
  local ms = #some[i + 1] < 16 and 0 or expiry(some[i + 1])
  if ms > 0 and ms + slack <= now then
    redis.call('HDEL', hash, some[i])
  end
end
if stays then
  if ttl >= 0 then
    redis.call('PERSIST', hash)
  end
  return APPLIED
end
if ttl == -1 then
  if not stayed then
    return APPLIED
  end
  -- A record that stays was the reason why the hash stays, and is gone. Was it the only one?
  for _, record in ipairs(redis.call('HVALS', hash)) do
    local ms = expiry(record)
    if ms == 0 then
      return APPLIED
    end
    latest = math.max(latest, ms)
  end
elseif ttl >= 0 then
  local time = redis.call('TIME')
  if latest + slack <= time[1] * 1000 + math.floor(time[2] / 1000) + ttl then
    return APPLIED
  end
end
if latest > 0 then
  redis.call('PEXPIREAT', hash, latest + slack)
end
return APPLIED
