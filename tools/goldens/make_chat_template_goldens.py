#!/usr/bin/env python3
"""Writes tests/goldens/chat_template/cases.json: conversations as transformers renders them.

The templates are written in the ways that chat models of today use: loops, namespaces, macros,
filters, slices, roles that must alternate. Needs transformers and jinja2.
"""

import json
from pathlib import Path

from transformers import PreTrainedTokenizerFast
from tokenizers import Tokenizer, models

OUTPUT = Path(__file__).resolve().parents[2] / "tests/goldens/chat_template/cases.json"

TEMPLATES = {
    "chatml": (
        "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
        "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "default_system": (
        "{%- if tools %}{{- 'tools' }}{%- endif %}\n"
        "{%- if messages[0].role == 'system' %}\n"
        "    {{- '<|system|>' + messages[0].content.strip() }}\n"
        "    {%- set rest = messages[1:] %}\n"
        "{%- else %}\n"
        "    {{- '<|system|>You are helpful.' }}\n"
        "    {%- set rest = messages %}\n"
        "{%- endif %}\n"
        "{%- for m in rest %}\n"
        "    {{- '<|' ~ m.role ~ '|>' ~ m.content | trim }}\n"
        "    {%- if loop.last and add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}\n"
        "{%- endfor %}\n"
    ),
    "headers": (
        "{% set loop_messages = messages %}{% for message in loop_messages %}"
        "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + "
        "message['content'] | trim + '<|eot_id|>' %}"
        "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}"
        "{{ content }}{% endfor %}"
        "{% if add_generation_prompt %}"
        "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
    ),
    "alternating": (
        "{{ bos_token }}{% for message in messages %}"
        "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
        "{{ raise_exception('Conversation roles must alternate user/assistant/user/...') }}"
        "{% endif %}{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
        "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token + ' ' }}"
        "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}"
        "{% endfor %}"
    ),
    "namespace_and_macro": (
        "{%- macro turn(role, text) -%}\n<turn {{ role | upper }}>{{ text | replace('\\n', ' ') }}</turn>\n"
        "{%- endmacro -%}\n"
        "{%- set ns = namespace(users=0) -%}\n"
        "{%- for m in messages -%}\n"
        "{%- if m['role'] == 'user' -%}{%- set ns.users = ns.users + 1 -%}{%- endif -%}\n"
        "{{ turn(m['role'], m['content']) }}\n"
        "{%- endfor -%}\n"
        "users: {{ ns.users }} {{ (messages | first).role }}, of {{ messages | length }}\n"
        "{%- if documents is none and tools is none %} alone{% endif %}"
        "{% if pad_token is defined %} padded{% endif %}"
        "{% if messages | selectattr('role', 'equalto', 'system') | list %} system{% endif %}\n"
    ),
    "block_lines": (
        "{% for m in messages %}\n"
        "  {% if m.role != 'system' %}\n"
        "{{ m.role }}: {{ m.content }}\n"
        "  {% endif %}\n"
        "{% endfor %}\n"
        "{% if add_generation_prompt %}\n"
        "assistant:\n"
        "{% endif %}\n"
    ),
}

CONVERSATIONS = [
    [("user", "Hello, who are you?")],
    [("user", "Two plus two?"), ("assistant", " Four. "), ("user", "And\nthree?  ")],
    [("system", "Answer briefly. "), ("user", "caf\u00e9 \u4f60\u597d {{ not_a_tag }}")],
]
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>"}


def main():
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1}, unk_token="<s>")), **SPECIAL)
    cases = []
    for name, template in TEMPLATES.items():
        for turns in CONVERSATIONS:
            messages = [{"role": role, "content": content} for role, content in turns]
            for add_generation_prompt in (True, False):
                case = {"name": name, "template": template, "messages": messages,
                        "add_generation_prompt": add_generation_prompt}
                try:
                    case["text"] = tokenizer.apply_chat_template(
                        messages, chat_template=template, tokenize=False,
                        add_generation_prompt=add_generation_prompt)
                except Exception as error:  # what the template itself raises
                    case["error"] = str(error)
                cases.append(case)
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text(json.dumps({"special_tokens": SPECIAL, "cases": cases}, indent=1) + "\n")


if __name__ == "__main__":
    main()
