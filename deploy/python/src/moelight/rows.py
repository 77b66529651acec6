"""Prompts as people write them, as rows of the protocol."""

from __future__ import annotations

import json
from typing import Any, Dict, Mapping, Sequence, Union

from .v1 import batch_job_pb2, types_pb2

# Text, chat messages, token ids, an OpenAI Batch line as a dict, or a row as it is.
Message = Mapping[str, Any]
PromptLike = Union[str, Sequence[Message], Sequence[int]]
RowLike = Union[PromptLike, Mapping[str, Any], batch_job_pb2.BatchRequest]

_SAMPLING = types_pb2.SamplingParams.DESCRIPTOR.fields_by_name
_CHAT_URL = "/v1/chat/completions"
_TEXT_URL = "/v1/completions"
# Of a body, without effect here: one model is served, and a batch has no streams.
_IGNORED = {"model", "user", "metadata", "stream"}
_MESSAGE_TEXTS = {"role", "content", "name", "reasoning_content", "tool_call_id"}


def sampling_params(values: Mapping[str, Any], where: str = "") -> types_pb2.SamplingParams:
    """Sampling parameters by their names; None counts as left out."""
    params = types_pb2.SamplingParams()
    for name, value in values.items():
        if name not in _SAMPLING:
            raise ValueError("%s%s: there is no such sampling parameter; there are %s"
                             % (where, name, ", ".join(sorted(_SAMPLING))))
        if value is None:
            continue
        try:
            if name == "stop":
                params.stop.extend([value] if isinstance(value, str) else value)
            elif name == "stop_token_ids":
                params.stop_token_ids.extend(value)
            elif name == "logit_bias":
                params.logit_bias.update({int(token): bias for token, bias in value.items()})
            else:
                setattr(params, name, value)
        except (TypeError, ValueError, AttributeError) as error:
            raise ValueError("%s%s: %s" % (where, name, error)) from None
    return params


def prompt(value: PromptLike, chat: bool = True) -> types_pb2.Prompt:
    """Text (a user's message if `chat`, else as it stands), chat messages or token ids."""
    result = types_pb2.Prompt()
    if isinstance(value, str):
        if chat:
            result.chat.messages.add(role="user", content=value)
        else:
            result.text = value
        return result
    items = list(value)
    if items and all(isinstance(item, Mapping) for item in items):
        for item in items:
            _add_message(item, result.chat)  # type: ignore[arg-type]
    elif items and all(isinstance(item, int) for item in items):
        result.token_ids.ids.extend(items)  # type: ignore[arg-type]
    else:
        raise ValueError("a prompt is text, a list of messages or a list of token ids, not %r"
                         % (value,))
    return result


def row(value: RowLike, chat: bool = True) -> batch_job_pb2.BatchRequest:
    """One row of a job."""
    if isinstance(value, batch_job_pb2.BatchRequest):
        return value
    if not isinstance(value, Mapping):
        return batch_job_pb2.BatchRequest(prompt=prompt(value, chat))
    if "body" not in value:
        raise ValueError("a request as a dict has custom_id, url and body, as in the OpenAI Batch "
                         "API; this one has %s" % ", ".join(map(str, value)))
    result = batch_job_pb2.BatchRequest(custom_id=str(value.get("custom_id") or ""))
    body: Dict[str, Any] = {name: field for name, field in value["body"].items()
                            if field is not None and name not in _IGNORED}
    url = value.get("url") or (_CHAT_URL if "messages" in body else _TEXT_URL)
    if url == _CHAT_URL:
        _read_chat(body, result)
    elif url == _TEXT_URL:
        if "prompt" not in body:
            raise ValueError("body.prompt is missing")
        result.prompt.CopyFrom(prompt(body.pop("prompt"), chat=False))
    else:
        raise ValueError("url: %s is neither %s nor %s" % (url, _CHAT_URL, _TEXT_URL))
    result.sampling.CopyFrom(sampling_params(body, "body."))
    return result


def _read_chat(body: Dict[str, Any], result: batch_job_pb2.BatchRequest) -> None:
    """Takes out of the body what only chats have."""
    if not body.get("messages"):
        raise ValueError("body.messages is missing")
    chat = result.prompt.chat
    for message in body.pop("messages"):
        _add_message(message, chat)
    tools = body.pop("tools", None)
    if tools and body.pop("tool_choice", "auto") != "none":
        chat.tools_json = json.dumps(tools)
    if "chat_template_kwargs" in body:
        chat.chat_template_kwargs_json = json.dumps(body.pop("chat_template_kwargs"))
    chat.omit_generation_prompt = not body.pop("add_generation_prompt", True)
    if "max_completion_tokens" in body:
        body["max_tokens"] = body.pop("max_completion_tokens")
    # OpenAI's chats ask for log probabilities with a switch and a number.
    top = body.pop("top_logprobs", 0)
    if body.pop("logprobs", False):
        body["logprobs"] = top


def _add_message(message: Message, chat: types_pb2.ChatPrompt) -> None:
    result = chat.messages.add()
    for name, value in message.items():
        if value is None:
            continue
        if name == "tool_calls":
            result.tool_calls_json = json.dumps(value)
        elif name == "content" and not isinstance(value, str):
            result.content = "\n".join(_text_part(part) for part in value)
        elif name in _MESSAGE_TEXTS:
            setattr(result, name, value)
        else:
            raise ValueError("a message has no field %r" % name)


def _text_part(part: Mapping[str, Any]) -> str:
    if part.get("type") != "text":
        raise ValueError("parts of a message can only be {\"type\": \"text\"}, not %r" % (part,))
    return str(part["text"])
