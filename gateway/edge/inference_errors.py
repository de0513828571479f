"""Errors of the Open Inference Protocol over HTTP as it has them: `{"error": "..."}`.

The text of an error goes in front of what the gateway says of it anyway (code, message,
details), so that clients of either kind find theirs.
"""

from typing import Final

from gateway.envoy.core import DataSource
from gateway.envoy.filters import Lua, LuaPerRoute

LUA_FILTER: Final = "envoy.filters.http.lua"

_NAME: Final = "inference_errors"

# The message is taken as it is written, escapes included. What is no JSON object with a
# message is left alone.
_SCRIPT: Final = r"""
local function message_of(text)
  local last = select(2, text:find('"message":%s*"'))
  local first = last
  while last do
    last = text:find('["\\]', last + 1)
    if not last then return nil end
    if text:sub(last, last) == '"' then return text:sub(first, last) end
    last = last + 1
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  if tonumber(headers:get(":status")) < 400 then return end
  if headers:get("content-type") ~= "application/json" then return end
  local body = handle:body()
  if not body then return end
  local text = body:getBytes(0, body:length())
  local message = message_of(text)
  if not message or text:sub(1, 1) ~= "{" then return end
  local length = body:setBytes('{"error":' .. message .. "," .. text:sub(2))
  headers:replace("content-length", length)
end
"""


def lua() -> Lua:
    """Returns the filter, outside of the transcoder; it does nothing where no route asks."""
    return Lua(source_codes={_NAME: DataSource(inline_string=_SCRIPT)})


def inference_errors() -> LuaPerRoute:
    """Returns what asks for it."""
    return LuaPerRoute(name=_NAME)
