#!/usr/bin/env python3
"""templates.py > templates.jsonl: what the reference makes of small templates of ours.

Needs jinja2 3.1.6 (the version is written into the first row); nothing of the project. The environment is the one that
transformers gives chat templates (transformers.utils.chat_template_utils): an immutable sandbox, trimmed blocks,
loop controls, its own tojson and raise_exception.

A row is {"template", "variables", "expected"}, or "raises" (raise_exception's sentence) or "error" (any other failure).
"""
import json
import sys

import jinja2
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Raised(Exception):
    pass


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

    def _text(self, caller):
        return caller()


def raise_exception(message):
    raise Raised(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    return env


MESSAGES = [
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": "Hi <|im_end|> \u00fc\u4e16\u754c"},
    {"role": "assistant", "content": "Hello!", "tool_calls": [{"function": {"name": "f", "arguments": {"a": 1, "b": [1.5, None, True]}}}]},
]

COMMON = {
    "messages": MESSAGES,
    "n": 3, "x": 2.5, "neg": -7, "s": "Hello W\u00f6rld", "empty": "", "no": None, "yes": True,
    "l": [3, 1, 2], "words": ["b", "A", "c"], "d": {"z": 1, "a": {"k": "v"}, "m": [1, 2]},
    "rows": [{"n": "x", "v": 2}, {"n": "Y", "v": 1}, {"n": "z"}],
    "text": "one\ntwo\n\nthree\n", "big": 123456789012345678901234567890, "quote": "it's \"q\"",
}

CASES = r"""
{{ s }}|{{ n }}|{{ x }}|{{ no }}|{{ yes }}|{{ l }}|{{ d }}|{{ missing }}|{{ big }}
{{ 1.0 }} {{ 0.1 }} {{ 1e22 }} {{ 1e16 }} {{ 123456789012345.6 }} {{ 1e-5 }} {{ 0.0001 }} {{ 1.5e300 }} {{ -0.0 }} {{ 100.0 }} {{ 12345678901234567.0 }}
{{ 1/3 }} {{ 2/1 }} {{ 7//2 }} {{ -7//2 }} {{ 7%3 }} {{ -7%3 }} {{ 7%-3 }} {{ 7.5%2 }} {{ 2**10 }} {{ 2**-1 }} {{ 2**0.5 }}
{{ 1_000 }} {{ 0x1F }} {{ 0b101 }} {{ 0o17 }} {{ 1_0.5 }} {{ 1e3 }}
{{ 'a' ~ 1 ~ none ~ 2.0 ~ [1] }}
{{ 'a' + 'b' * 3 }} {{ 2 * 'xy' }} {{ [1] * 3 }} {{ (1,) * 2 }} {{ [1] + [2] }}
{{ 'ab' 'cd' "ef" }}
{{ '\n\t\\\'\"\x41\u00e9\101\q' }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ true == 1 }} {{ 'a' < 'b' }} {{ [1,2] < [1,3] }} {{ none == none }} {{ (1,2) == (1,2) }} {{ (1,2) == [1,2] }}
{{ 1 in l }} {{ 5 not in l }} {{ 'ell' in s }} {{ 'z' in d }} {{ 'q' in d }} {{ not 1 in l }}
{{ yes and n or 0 }} {{ no or 'x' }} {{ not no }} {{ not not n }} {{ 0 and 1/0 }}
{{ 'a' if n > 2 else 'b' }} {{ 'a' if n > 5 }} {{ 'x' if no else 'y' if n else 'z' }}
{{ -n }} {{ +n }} {{ - -n }} {{ -n|abs }} {{ 2 - -1 }} {{ -n ** 2 }}
{{ l[0] }} {{ l[-1] }} {{ l[5] }} {{ s[1] }} {{ s[-4] }} {{ d['z'] }} {{ d.a.k }} {{ d['a']['k'] }} {{ d.none }} {{ l.0 }}
{{ l[:2] }} {{ l[1:] }} {{ l[::-1] }} {{ s[::2] }} {{ s[-3:] }} {{ s[6:8] }} {{ l[5:1] }} {{ s[::-1] }} {{ l[-2:] }} {{ (1,2,3)[1:] }} {{ s[100:] }} {{ l[::-2] }} {{ s[-100:3] }}
{{ [] }} {{ () }} {{ (1,) }} {{ (1, 2) }} {{ {} }} {{ {'a': 1, 'b': [1, (2, 3)], 3: none} }} {{ {1: 2, 1.0: 3, true: 4} }}
{{ quote|list|first }} {{ [quote] }} {{ ['\n\t\\\x01é\u200b'] }} {{ ["it's"] }} {{ ['"'] }}
{{ d.items() }} {{ d.keys() }} {{ d.values() }} {{ d.items()|list }} {{ d.get('z') }} {{ d.get('q') }} {{ d.get('q', 5) }}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k, v in d|items %}{{ loop.index }}{{ k }}={{ v }};{% endfor %}
{% for i in l %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.previtem }}/{{ loop.nextitem }};{% endfor %}
{% for i in l if i > 1 %}{{ i }}:{{ loop.length }}{% else %}none{% endfor %}|{% for i in [] %}x{% else %}none{% endfor %}
{% for i in l if i > 5 %}{{ i }}{% else %}none{% endfor %}
{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% if loop.last %}{% break %}{% endif %}{% endfor %}
{% for a, (b, c) in [(1, (2, 3)), [4, 'xy']] %}{{ a }}{{ b }}{{ c }};{% endfor %}
{% for c in s %}{{ c }}-{% endfor %}|{% for k in d %}{{ k }}{% endfor %}
{% for i in range(3) %}{{ loop.cycle('a', 'b') }}{% endfor %}|{{ range(5)|list }}{{ range(2, 8, 3)|list }}{{ range(5, 0, -2)|list }}
{% for r in [1,1,2] %}{{ loop.changed(r) }}{% endfor %}
{% for x in [{'n': 1, 'c': [{'n': 2, 'c': []}]}] recursive %}<{{ x.n }}@{{ loop.depth }}{{ loop(x.c) }}>{% endfor %}
{% set y = 1 %}{% for i in l %}{% set y = i %}{{ y }}{% endfor %}{{ y }}
{% set ns = namespace(v=0, w='a') %}{% for i in l %}{% set ns.v = ns.v + i %}{% set ns.w = ns.w ~ i %}{% endfor %}{{ ns.v }}{{ ns.w }}{{ ns.q }}
{% set y %}block {{ n }}{% endset %}[{{ y }}]{% set z | upper | trim %} ab {% endset %}[{{ z }}]
{% set a, b = 1, 2 %}{{ a }}{{ b }}{% set (a, b) = (b, a) %}{{ a }}{{ b }}
{% if n == 3 %}{% set q = 'in' %}{% endif %}{{ q }}
{% if no %}a{% elif n == 2 %}b{% elif n == 3 %}c{% else %}d{% endif %}
{% macro m(a, b=2, c=a) %}({{ a }},{{ b }},{{ c }}){% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=5, a=4) }}{{ m() }}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, k=3) }}
{% macro m(t) %}<{{ t }}>{{ caller(1, 'x') }}</{{ t }}>{% endmacro %}{% call(a, b) m('p') %}{{ a }}{{ b }}{{ n }}{% endcall %}
{% macro f(k) %}{% if k > 0 %}{{ k }}{{ f(k - 1) }}{% endif %}{% endmacro %}{{ f(4) }}
{% macro m() %}{{ late }}{% endmacro %}{% set late = 'set later' %}{{ m() }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(q=2) }}
{% filter upper %}abc {{ s }}{% endfilter %}|{% filter replace('a', 'b')|upper %}aXa{% endfilter %}
{% with a = 1, b = n %}{{ a }}{{ b }}{% endwith %}{{ a }}
{% generation %}gen {{ n }}{% endgeneration %}
{% raw %}{{ not a tag }} {% if %}{% endraw %}|{%- raw -%}  x  {%- endraw -%}  |
a {#- comment -#} b {# {{ no }} #} c
{{ s|upper }} {{ s|lower }} {{ s|title }} {{ 'heLLo wORLD'|capitalize }} {{ s|length }} {{ 'straße'|upper }} {{ "it's a-b (c)"|title }} {{ "it's a-b (c)".title() }}
{{ '  a b '|trim }}| {{ 'xxaxx'|trim('x') }} {{ '  a '.strip() }}| {{ 'xya'.lstrip('xy') }} {{ 'ayx'.rstrip('xy') }} {{ '\u00a0a\u2003'.strip() }}|
{{ 'a,b,,c'.split(',') }} {{ 'a,b,c'.split(',', 1) }} {{ ' a  b '.split() }} {{ ' a  b c '.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b  c '.rsplit(none, 1) }} {{ ''.split() }} {{ ''.split(',') }}
{{ 'a-b-c'.partition('-') }} {{ 'a-b-c'.rpartition('-') }} {{ 'abc'.partition('-') }} {{ 'abc'.rpartition('-') }}
{{ text.splitlines() }} {{ text.splitlines(true) }} {{ 'a\r\nb\rc\u2028d'.splitlines() }}
{{ s.startswith('Hell') }} {{ s.startswith(('x', 'H')) }} {{ s.endswith('ld') }} {{ s.find('W') }} {{ s.find('l') }} {{ s.rfind('l') }} {{ s.find('q') }} {{ s.index('ö') }} {{ s.count('l') }} {{ 'aaa'.count('aa') }} {{ 'ab'.count('') }}
{{ 'aXbXc'.replace('X', '-') }} {{ 'aXbXc'.replace('X', '-', 1) }} {{ 'abc'.replace('', '.') }} {{ 'abc'.replace('', '.', 2) }} {{ 'aa'|replace('a', 'b', 1) }} {{ 'ä'.replace('', '-') }}
{{ 'abc'.removeprefix('a') }} {{ 'abc'.removesuffix('c') }} {{ 'abc'.removesuffix('x') }} {{ 'aB'.swapcase() }} {{ 'a'.center(4) }}| {{ 'ab'.center(5, '*') }} {{ 'a'.ljust(3) }}| {{ 'a'.rjust(3, '.') }} {{ '-5'.zfill(4) }} {{ '42'.zfill(5) }}
{{ 'abc'.isalpha() }} {{ '12'.isdigit() }} {{ 'a1'.isalnum() }} {{ ' '.isspace() }} {{ 'AB'.isupper() }} {{ 'ab1'.islower() }} {{ ''.isalpha() }} {{ 'Ab'.isupper() }}
{{ ','.join(['a', 'b']) }} {{ ', '.join(words) }} {{ ''.join([]) }}
{{ '{} and {}'.format(1, 'b') }} {{ '{0}{1}{0}'.format('a', 'b') }} {{ '{k}'.format(k=3) }} {{ '{{}}'.format() }}
{{ '%s is %d, %5.2f|%-5s|%05d|%x|%%|%r' % ('a', 3, 2.345, 'l', 42, 255, 'q') }} {{ '%s' % 5 }} {{ '%(a)s' % {'a': 1} }} {{ '%s-%s'|format('a', 'b') }}
{{ l|sort }} {{ words|sort }} {{ words|sort(case_sensitive=true) }} {{ l|sort(reverse=true) }} {{ rows[:2]|sort(attribute='v')|map(attribute='n')|list }} {{ [(2,'b'),(1,'b'),(2,'a')]|sort }}
{{ l|first }} {{ l|last }} {{ []|first }} {{ 'abc'|first }} {{ l|length }} {{ l|sum }} {{ l|min }} {{ l|max }} {{ words|min }} {{ l|reverse|list }} {{ 'abc'|reverse }} {{ l|join('-') }} {{ rows|join(',', attribute='n') }}
{{ ['a', 'A', 'b', 'a']|unique|list }} {{ ['a', 'A']|unique(case_sensitive=true)|list }} {{ [1, 1.0, true, 2]|unique|list }}
{{ rows|map(attribute='n')|list }} {{ rows|map(attribute='v', default=0)|list }} {{ words|map('upper')|list }} {{ words|map('replace', 'b', 'x')|join }} {{ [[1, 2], [3]]|map('length')|list }}
{{ rows|selectattr('v')|map(attribute='n')|list }} {{ rows|selectattr('v', 'defined')|list|length }} {{ rows|selectattr('n', 'equalto', 'x')|list }} {{ rows|rejectattr('v', 'eq', 2)|map(attribute='n')|list }} {{ l|select('>', 1)|list }} {{ l|reject('odd')|list }} {{ [0, 1, '', 'a']|select|list }}
{{ d|dictsort }} {{ {'b': 1, 'A': 2}|dictsort }} {{ {'b': 1, 'A': 2}|dictsort(true) }} {{ {'b': 1, 'a': 2}|dictsort(by='value', reverse=true) }}
{{ missing|default('x') }} {{ no|default('x') }} {{ no|default('x', true) }} {{ ''|d('y', boolean=true) }} {{ missing|default }}|
{{ '42'|int }} {{ '4.9'|int }} {{ 'x'|int }} {{ 'x'|int(7) }} {{ 'ff'|int(base=16) }} {{ '0x1f'|int(0, 16) }} {{ 4.9|int }} {{ -4.9|int }} {{ true|int }} {{ none|int }} {{ '1.5'|float }} {{ 'x'|float }} {{ 3|float }} {{ ' 12 '|int }} {{ '1e3'|float }} {{ '1e3'|int }}
{{ 2.5|round }} {{ 3.5|round }} {{ 2.675|round(2) }} {{ 42.55|round(1, 'floor') }} {{ 42.51|round(0, 'ceil') }} {{ 42|round }} {{ 1234.5|round(-2) }} {{ -2.5|abs }}
{{ d|tojson }} {{ s|tojson }} {{ quote|tojson }} {{ '<&>\x7f\n\u2028'|tojson }} {{ [1, 2.0, none, true, 1e100]|tojson }} {{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }} {{ []|tojson(indent=2) }} {{ big|tojson }}
{{ d|tojson(indent=2) }}
{{ d|tojson(indent=4, sort_keys=true) }}|{{ l|tojson(indent=0) }}|{{ l|tojson(indent='\t') }}|{{ d|tojson(separators=(',', ':')) }}|{{ s|tojson(ensure_ascii=true) }}
{{ text|indent }}|{{ text|indent(2, true) }}|{{ text|indent(2, blank=true) }}|{{ text|indent('> ') }}
{{ 'abc def ghi'|truncate(5, leeway=0) }}|{{ 'abc def ghi'|truncate(7, true, '~', 0) }}|{{ 'abc'|truncate(5) }}|{{ 'a'|center(5) }}|{{ l|batch(2)|list }}|{{ l|batch(2, 0)|list }}
{{ '<b>&"'|e }} {{ '<b>'|safe }} {{ ('<b>'|safe) + '<c>' }} {{ '<c>' + ('<b>'|safe) }} {{ '<c>' ~ ('<b>'|safe) }} {{ ('<b>'|safe|upper) + '&' }}
{{ s is string }} {{ n is number }} {{ n is integer }} {{ true is integer }} {{ x is float }} {{ yes is boolean }} {{ no is none }} {{ d is mapping }} {{ l is sequence }} {{ s is sequence }} {{ d is iterable }} {{ n is iterable }} {{ missing is defined }} {{ missing is undefined }} {{ s is not string }} {{ n is odd }} {{ n is divisibleby 3 }} {{ n is divisibleby(2) }} {{ n is eq 3 }} {{ n is in [1, 3] }} {{ range is callable }} {{ 'a' is lower }} {{ 'A' is upper }} {{ yes is true }} {{ yes is sameas true }} {{ 1 is sameas true }} {{ d.items() is iterable }} {{ d.items() is sequence }} {{ missing is iterable }} {{ missing is mapping }} {{ 'upper' is filter }} {{ 'odd' is test }}
{{ dict(a=1, b=2) }} {{ dict({'a': 1}, b=3) }} {{ dict([('a', 1)]) }}
{{ missing.x is defined }}
{{ missing.x }}
{{ d.x.y }}
{{ d['x']['y'] }}
{{ missing + 1 }}
{{ 1 + missing }}
{{ 'a' + 1 }}
{{ 1 + 'a' }}
{{ l + 'a' }}
{{ none + 1 }}
{{ 1/0 }}
{{ [1] < 2 }}
{{ 'a' < 1 }}
{{ 5() }}
{{ missing() }}
{{ d.nothing() }}
{{ l.append(4) }}
{{ d.update({'a': 1}) }}
{{ d.pop('z') }}
{{ l.pop is defined }}
{{ raise_exception('No ' ~ n ~ ' of them!') }}
{% if messages[0].role != 'user' %}{{ raise_exception('roles: ' ~ messages[0]['role']) }}{% endif %}
{% set d.x = 1 %}
{{ n|nosuchfilter }}
{{ n is nosuchtest }}
{% nosuchtag %}
{{ n
{% if n %}
{% endif %}
{{ (1 }}
{{ 'abc }}
{% for in l %}{% endfor %}
{{ 1 2 }}
{% break %}
{{ n|int(1, 2, 3, 4) }}
{{ range(1000000) }}
{{ {[]: 1} }}
{{ none|length }}
{{ 3|length }}
{{ none[0] }}|{{ none[:3] }}|{{ n.foo }}|{{ n['foo'] }}
{{ none.items() }}
{% for a, b in [(1, 2, 3)] %}{% endfor %}
{% for i in n %}{% endfor %}
{% for i in none %}{% endfor %}
{{ l|map('nosuch')|list }}
{{ missing|tojson }}
{{ (l|map('string'))|tojson }}
{{ l|map('string')|length }}
{{ missing|int }}
{{ loop }}|{{ caller }}
{% for i in l %}{% for j in l %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}
{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content|trim + '<|im_end|>\n' }}{% endfor %}{{ messages[-1].tool_calls[0].function.arguments|tojson }}
{% for m in messages[1:] %}{{ loop.previtem.role if loop.previtem is defined else '-' }}>{{ m['role'] }};{% endfor %}
{% set g = l|map('string') %}{{ g|join }}{{ g|join }}|
{{ ''|list }} {{ d|list }} {{ 'ab'|list }} {{ (1,2)|list }}
{{ [1, [2, [3]]]|string }} {{ d|string|length }} {{ none|string }} {{ missing|string }}|
{{ 'a' is in 'abc' }} {{ 'x' in missing }} {{ missing == missing2 }} {{ missing == none }} {{ missing in [1] }}
{{ ' a '|trim|length }}{{ ' a '|trim is string }}{{ n|string is string }}
{{ ((n)) }} {{ (n, ) }} {{ n, s }} {{ [n, s,] }}
{{ {'a': {'b': [1, {'c': 'deep'}]}}.a.b[1].c }}
{{ 'x'|upper ~ 'y' }} {{ 1 + l|length }} {{ l|length > 2 and s|length > 3 }} {{ not l|length }}
{{ s.upper()[0:3].lower() }} {{ (s ~ '!')[-1] }} {{ s.split(' ')[1][0] }}
""".strip("\n").split("\n")

LAYOUT = [
    "{% if true %}\n  a\n{% endif %}\nb\n",
    "  {% if true %}\n  a\n  {% endif %}\n  b",
    "x {% if true %} y {% endif %} z",
    "x\n\n  {%- if true %}  y  {%- endif -%}  \n\n z",
    "x\n  {%+ if true %}y{% endif +%}\nz\n\n",
    "a\n   {# c #}\nb{# d #}\n c {#- e -#} \n f",
    "a  {{- 1 -}}  b {{ 2 }} \n {{+ 3 }}",
    "{% for i in l %}\n- {{ i }}\n{% endfor %}\nend\n",
    "{% for i in l -%}\n  {{ i }}\n{%- endfor %}",
    "a\r\nb\rc\n{{ 'x\r\ny' }}\r\n",
    "\n\n{% set a = 1 %}\n\n{{ a }}\n",
    "   {{ 1 }}\n\t{% if true %}\n\tx\n\t{% endif %}\t\n",
    "{% raw %}\n {{ x }}\n{% endraw %}\n y",
    "{{ '{%' }}{{ \"}}\" }}{{ {'a': {'b': 1}} }}{{ {'a': {'b': 1}}}}",
    "{%- macro m(a) -%}\n  <{{ a }}>\n{%- endmacro -%}\n\n{{ m(1) }}\n{{ m(2) }}",
    "a{# {% if %} #}b{#\n#}\nc",
    "{%for i in l%}{{i}}{%endfor%}{%if true%}y{%endif%}",
    "{{ 1 }}\n",
    "\n",
    "",
    "{ % } { { } } {",
]


def row(env, template, variables):
    out = {"template": template, "variables": variables}
    try:
        out["expected"] = env.from_string(template).render(**variables)
    except Raised as e:
        out["raises"] = str(e)
    except Exception as e:
        out["error"] = type(e).__name__ + ": " + str(e)
    return out


def used(template):
    return {k: v for k, v in COMMON.items() if k in template}


def main():
    env = environment()
    print(json.dumps({"made_with": "jinja2 " + jinja2.__version__ + ", Python " + sys.version.split()[0]}))
    for template in CASES + LAYOUT:
        print(json.dumps(row(env, template, used(template)), ensure_ascii=False))


main()
