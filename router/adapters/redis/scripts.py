"""The registry's Lua scripts. Each runs as one step: Redis runs nothing else in between.

The scripts that only a leader may run compare its epoch first. Redis' own clock decides whether a lead has ended. That
clock may be set back, as when a replica on another machine takes over: then what lies ahead of it must not last.
"""

from __future__ import annotations

from typing import Final

_NOW: Final = "local t = redis.call('TIME') local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"
"""Lua: `now` is the time by the Redis server's clock, in ms since 1970."""

_READ: Final = """
local function read(text)
  local ok, value = pcall(cjson.decode, text or '')
  return ok and type(value) == 'table' and value or {}
end
local function whole(value)
  value = tonumber(value)
  return value and value >= 0 and value <= 9007199254740992 and math.floor(value) or 0
end
local function number(value, highest)
  value = whole(value)
  return value <= highest and value or 0
end
"""
"""Lua: `read` returns a JSON object's members, none of what is no such object; `whole` returns a whole number from 0 to
2^53, and 0 for anything else; `number` also returns 0 for what is above `highest`. One entry that can't be read must
not make a script fail for all others."""

_BOUNDS: Final = """
local highest_generation, highest_epoch = now, now + 31536000000
"""
"""Lua, after _NOW: the highest generation and the highest epoch that there can be.

An epoch begins at the server's time in ms, and no cell has had a generation for each ms since 1970. Both bounds grow
faster than anybody counts: whatever number below them somebody writes, the next one can still be given out."""

_NAMED: Final = """
local function named(key, names)
  local found = {}
  for _, name in ipairs(names) do
    local value = redis.call('HGET', key, name)
    if value then
      found[#found + 1] = name
      found[#found + 1] = string.sub(value, 1, 8192)
    end
  end
  return found
end
"""
"""Lua: `named` returns of a hash the entries with these names, each cut where it is longer than any honest one."""

MAX_ENTRIES: Final = 4096
"""Nobody reads more entries of one hash at once. A thousand cells have so many leases while all are replaced."""

_ENTRIES: Final = f"""
local function overfull(key) return redis.call('HLEN', key) > {MAX_ENTRIES} end
local function entries(key)
  local all
  if overfull(key) then
    all = redis.call('HSCAN', key, t[2], 'COUNT', '{MAX_ENTRIES}')[2]
  else
    all = redis.call('HGETALL', key)
  end
  local size = 0
  for i = 1, #all do size = size + #all[i] end
  if size > 33554432 then
    for i = 1, #all do all[i] = string.sub(all[i], 1, 8192) end
  end
  return all
end
"""
"""Lua, after _NOW: `entries` returns the fields and values of a hash. Where it has more than MAX_ENTRIES, it returns
about so many from somewhere in it: the microseconds are the cursor, so that nobody sees the same ones each time. Where
they have more than 32 MiB together, it cuts those of more than 8 KiB, which then can't be read."""

# KEYS: leader, audit, map, policy, generations, cells, leases, history, then the hashes of which all is soon said
# again. ARGV: owner, time to live in ms, hint.
# Takes the lead or renews it, and keeps the registry so that nobody stumbles over it: a key of another type than ours
# goes, for none of our commands can use it; a hash with too many entries goes where all that is in it is soon said
# again, and otherwise loses what nobody can need, bit by bit. So go counts of generations that are none, which no cell
# may write over, and of the leases that ended a while ago those of generations below the admitted one, and what no
# instance has named. Returns the epoch (empty while another owner leads), and what was tidied: key and reason, one
# after the other.
# While another leads, notes that this owner is there to take over. No lead that is waited for so lasts longer than its
# own time to live: the clock set back keeps a dead leader's no longer.
LEAD: Final = (
    _NOW
    + _READ
    + _BOUNDS
    + _ENTRIES
    + """
local tidied = {}
local function tell(key, why)
  tidied[#tidied + 1] = key
  tidied[#tidied + 1] = why
end
local function useless(key, field, value)
  if key == KEYS[5] or key == KEYS[6] then return not string.match(field, '^cell%-0%d%d%d$') end
  if key == KEYS[8] then
    local version, newest = whole(field), whole(redis.call('HGET', KEYS[4], 'version'))
    return version > newest or version <= newest - 100
  end
  local ends = whole(read(value).expires_at_ms)
  return ends < now - 60000 or ends > now + 120000
end
for i, key in ipairs(KEYS) do
  local found, ours = redis.call('TYPE', key).ok, i == 2 and 'stream' or 'hash'
  if found ~= ours and found ~= 'none' then
    redis.call('UNLINK', key)
    tell(key, 'it was a ' .. found .. ' and no ' .. ours .. ', so it held nothing that can be used: it was removed')
  elseif i > 8 and overfull(key) then
    redis.call('UNLINK', key)
    tell(key, 'it had too many entries: it was removed, and who goes on says anew what belongs there')
  elseif i > 4 and overfull(key) then
    local some = entries(key)
    for n = 1, #some, 2 do
      if useless(key, some[n], some[n + 1]) then redis.call('HDEL', key, some[n]) end
    end
    tell(key, 'it has too many entries: those that nobody can need are not read, and go bit by bit')
  end
end
local counts = entries(KEYS[5])
for n = 1, #counts, 2 do
  if number(counts[n + 1], highest_generation) == 0 then redis.call('HDEL', KEYS[5], counts[n]) end
end
local some = redis.call('HSCAN', KEYS[7], t[2], 'COUNT', '32')[2]
for n = 1, #some, 2 do
  if useless(KEYS[7], some[n], some[n + 1]) then
    local cell, generation = string.match(some[n], '^(.*)/(%d+)/%x+$')
    local record = cell and read(redis.call('HGET', KEYS[6], cell))
    if not cell or whole(record.generation) > tonumber(generation) then redis.call('HDEL', KEYS[7], some[n]) end
  end
end
local fields = {'owner', 'expires_at_ms', 'ttl_ms', 'epoch'}
local owner, expires, ttl, stored = unpack(redis.call('HMGET', KEYS[1], unpack(fields)))
local epoch, hint = number(stored, highest_epoch), number(ARGV[3], highest_epoch)
local live = owner and whole(expires) > now
if live and owner ~= ARGV[1] then
  redis.call('HSET', KEYS[1], 'heir', ARGV[1], 'heir_until_ms', string.format('%.0f', now + ARGV[2]))
  local latest = now + number(ttl, 600000)
  if whole(expires) > latest then redis.call('HSET', KEYS[1], 'expires_at_ms', string.format('%.0f', latest)) end
  return {'', tidied}
end
if not live or epoch == 0 or epoch < hint then
  epoch = math.max(epoch + 1, now, hint + 1)
  redis.call('HSET', KEYS[1], 'cushioned', '')
end
local text = string.format('%.0f', epoch)
local ends = string.format('%.0f', now + ARGV[2])
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'epoch', text, 'ttl_ms', ARGV[2], 'expires_at_ms', ends)
return {text, tidied}
"""
)

# KEYS: leader. ARGV: owner. Ends this owner's lease; leaves another owner's alone. Returns 1 when no controller is
# left: the leader has resigned, and nobody else waits. A lead that ran out says nothing: its owner may be cut off.
RESIGN: Final = (
    _NOW
    + _READ
    + """
local fields = {'owner', 'expires_at_ms', 'heir', 'heir_until_ms'}
local owner, expires, heir, waits = unpack(redis.call('HMGET', KEYS[1], unpack(fields)))
local leads = owner == ARGV[1] and whole(expires) > now
if owner == ARGV[1] then redis.call('HSET', KEYS[1], 'expires_at_ms', '0') end
if heir == ARGV[1] then redis.call('HDEL', KEYS[1], 'heir', 'heir_until_ms') end
local waited_for = heir and heir ~= ARGV[1] and whole(waits) > now
return (leads or expires == '0') and not waited_for and 1 or 0
"""
)

_FENCE: Final = (
    "if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return redis.error_reply('NOTLEADER another leads') end\n"
)

# KEYS: leader, cells, map, audit, policy, history, proposals, rulings, offers.
# ARGV: epoch, change as JSON, audit entries to keep, policy versions to keep, channel.
WRITE: Final = (
    _FENCE
    + """
local change = cjson.decode(ARGV[2])
for id, record in pairs(change.cells) do redis.call('HSET', KEYS[2], id, record) end
if change.map_epoch then
  redis.call('HSET', KEYS[3], 'epoch', change.map_epoch, 'blob', change.map)
  redis.call('DEL', KEYS[9])
end
if change.policy_version then
  redis.call('HSET', KEYS[5], 'version', change.policy_version, 'blob', change.policy)
  redis.call('HSET', KEYS[6], change.policy_version, change.policy_entry)
  redis.call('HDEL', KEYS[6], string.format('%.0f', change.policy_version - ARGV[4]))
end
for id, ruling in pairs(change.rulings) do
  redis.call('HSET', KEYS[8], id, ruling)
  redis.call('HDEL', KEYS[7], id)
end
for _, entry in ipairs(change.audit) do redis.call('XADD', KEYS[4], 'MAXLEN', '~', ARGV[3], '*', 'entry', entry) end
redis.call('PUBLISH', ARGV[5], ARGV[1])
"""
)

# KEYS: leader, generations, cells. ARGV: epoch, cell, hint. Gives out a cell's next generation: above every earlier
# one, the admitted one, the highest that was ever launched, and `hint`.
NEXT_GENERATION: Final = (
    _FENCE
    + _NOW
    + _READ
    + _BOUNDS
    + """
local function below(value) return number(value, highest_generation) end
local record = read(redis.call('HGET', KEYS[3], ARGV[2]))
local stored = below(redis.call('HGET', KEYS[2], ARGV[2]))
local generation = math.max(stored, below(record.generation), below(record.launched), below(ARGV[3])) + 1
redis.call('HSET', KEYS[2], ARGV[2], generation)
return generation
"""
)

# KEYS: leader, map, cells, leases, policy, routers. ARGV: the map's epoch and the policy's version that the caller has.
# Returns map and policy only where they differ from those, and no more than one byte over 16 MiB of each; and which
# cells shall be cushioned, as long as one leads. Of cells with too many entries it returns those that a cell's name
# tells of, whatever lies beside them, and nil for leases with too many: the caller asks for those that it knows the
# names of.
SNAPSHOT: Final = (
    _NOW
    + _READ
    + _ENTRIES
    + _NAMED
    + """
local function cells_of()
  if not overfull(KEYS[3]) then return entries(KEYS[3]) end
  local names = {}
  for i = 0, 999 do names[#names + 1] = string.format('cell-%04d', i) end
  return named(KEYS[3], names)
end
local function cut(text) return text and string.sub(text, 1, 16777217) or '' end
local epoch = redis.call('HGET', KEYS[2], 'epoch')
local blob = epoch and epoch ~= ARGV[1] and redis.call('HGET', KEYS[2], 'blob')
local owner, expires, cushioned = unpack(redis.call('HMGET', KEYS[1], 'owner', 'expires_at_ms', 'cushioned'))
local leader = owner and whole(expires) > now and string.sub(owner, 1, 200) or ''
local cells = cells_of()
local leases = not overfull(KEYS[4]) and entries(KEYS[4])
local version = redis.call('HGET', KEYS[5], 'version')
local policy = version and version ~= ARGV[2] and redis.call('HGET', KEYS[5], 'blob')
local time, routers = string.format('%.0f', now), entries(KEYS[6])
return {time, string.sub(epoch or '', 1, 20), cut(blob), leader, cells, leases,
  string.sub(version or '', 1, 20), cut(policy), routers, leader ~= '' and cut(cushioned) or ''}
"""
)

# KEYS: leases. ARGV: fields. Returns these entries, of a hash that has too many.
LEASES: Final = _NAMED + "return named(KEYS[1], ARGV)"

# KEYS: routers. ARGV: router, report, time to live in ms (0: the router leaves).
# Removes the reports that expired more than a minute ago, and those that no router can have written.
REPORT: Final = (
    _NOW
    + _READ
    + _ENTRIES
    + """
if tonumber(ARGV[3]) == 0 then return redis.call('HDEL', KEYS[1], ARGV[1]) end
local expires = string.format('%.0f', now + ARGV[3])
redis.call('HSET', KEYS[1], ARGV[1], '{"expires_at_ms":' .. expires .. ',"report":' .. ARGV[2] .. '}')
local all = entries(KEYS[1])
for i = 1, #all, 2 do
  if number(read(all[i + 1]).expires_at_ms, now + 600000) < now - 60000 then redis.call('HDEL', KEYS[1], all[i]) end
end
"""
)

# KEYS: offers. ARGV: epoch, map, policy. Keeps the offer with the newest map. A router offers again and again, so one
# of which nothing was heard for 2 s is in nobody's way.
OFFER: Final = (
    _NOW
    + _READ
    + """
local epoch, at = unpack(redis.call('HMGET', KEYS[1], 'epoch', 'at_ms'))
local fresh = number(at, now) > now - 2000
if fresh and whole(epoch) > tonumber(ARGV[1]) then return end
local time = string.format('%.0f', now)
redis.call('HSET', KEYS[1], 'epoch', ARGV[1], 'map', ARGV[2], 'policy', ARGV[3], 'at_ms', time)
"""
)

# KEYS: proposals, offers. Returns the time, the proposals, and the offered map and policy.
PETITIONS: Final = (
    _NOW
    + _ENTRIES
    + """
local map, policy = unpack(redis.call('HMGET', KEYS[2], 'map', 'policy'))
local function cut(text) return text and string.sub(text, 1, 16777217) or '' end
return {string.format('%.0f', now), entries(KEYS[1]), cut(map), cut(policy)}
"""
)

# KEYS: a hash. Returns the time, and its entries.
LISTED: Final = _NOW + _ENTRIES + "return {string.format('%.0f', now), entries(KEYS[1])}"

# KEYS: traffic or samples. ARGV: router, what it has seen as JSON, ms.
# Removes what routers said that have said nothing since, for so many ms, and what none can have said yet.
NOTE: Final = (
    _NOW
    + _READ
    + _ENTRIES
    + """
redis.call('HSET', KEYS[1], ARGV[1], '{"at_ms":' .. string.format('%.0f', now) .. ',"said":' .. ARGV[2] .. '}')
local all = entries(KEYS[1])
for i = 1, #all, 2 do
  local at = number(string.match(all[i + 1], '^{"at_ms":(%d+)'), now)
  if at < now - ARGV[3] then redis.call('HDEL', KEYS[1], all[i]) end
end
"""
)

# KEYS: samples. ARGV: ms. Returns what routers have said within the last so many ms.
SAMPLES: Final = (
    _NOW
    + _READ
    + _ENTRIES
    + """
local all, found = entries(KEYS[1]), {}
for i = 1, #all, 2 do
  if number(string.match(all[i + 1], '^{"at_ms":(%d+)'), now) >= now - ARGV[1] then
    found[#found + 1] = all[i]
    found[#found + 1] = all[i + 1]
  end
end
return found
"""
)

# KEYS: leader, conditions. ARGV: epoch, the cells to be cushioned, whether all that was said before goes (1 or 0), then
# cells and their conditions as JSON, one after the other; an empty one takes away what was said of a cell.
NOTE_CONDITIONS: Final = (
    _FENCE
    + _NOW
    + """
redis.call('HSET', KEYS[1], 'cushioned', ARGV[2])
if ARGV[3] == '1' then redis.call('UNLINK', KEYS[2]) end
redis.call('HSET', KEYS[2], 'at', string.format('%.0f', now))
for i = 4, #ARGV, 2 do
  if ARGV[i + 1] == '' then redis.call('HDEL', KEYS[2], ARGV[i])
  else redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
end
"""
)
