#!/usr/bin/env python3
"""Writes tests/data/text/templates.json: template cases and what jinja2 makes of them, configured as the transformers library configures it for chat
templates. The long templates are written here in the manner of published ones. Run again only to change the data.
With --random N it prints N random cases instead (for text_compare.py)."""
import json
import pathlib
import random
import sys
from datetime import datetime

import jinja2
import jinja2.ext
from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

OUT = pathlib.Path(__file__).resolve().parent.parent / "data" / "text" / "templates.json"


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        lineno = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_generation"), [], [], body).set_lineno(lineno)

    def _generation(self, caller):
        return caller()


def environment():
    def raise_exception(message):
        raise TemplateError(message)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = lambda f: datetime.now().strftime(f)
    return env


DATA = {
    "s": "  Hello, World! 'q' \"d\"\n", "e": "", "u": "Größe 中文 🙂", "w": "one two  three\tfour", "csv": "a,b,,c", "n": 7, "z": 0, "neg": -3, "f": 2.5, "big": 1234567890123,
    "t": True, "no": False, "nil": None, "l": [3, 1, 2], "ll": [[1, 2], [3], []], "names": ["bob", "Alice", "carol", "bob"], "mixed": [1, "a", None, True, 2.5, [1], {"k": "v"}], "empty": [],
    "d": {"b": 2, "a": 1, "C": [1, 2]}, "people": [{"name": "Ann", "age": 30, "tags": ["x"]}, {"name": "bob", "age": 25}, {"name": "Cid", "age": 30, "tags": []}],
    "html": "<a href=\"x\">&'</a>", "nested": {"a": {"b": {"c": [10, 20, {"d": "deep"}]}}}, "lines": "first\n  second\n\nthird\r\nfourth",
    "tools": [{"type": "function", "function": {"name": "get_weather", "description": "Weather für \"x\" <b>", "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}, "required": ["city"]}}}],
}

EXPRESSIONS = """
s|s.strip()|s.lstrip()|s.rstrip()|s.strip(' \\n')|u|u|length|e|nil|t|no|n|f|big|l|d|mixed|nested
""".strip().split("|")[:0] + [
    "s", "s.strip()", "s.lstrip()", "s.rstrip()", "s.strip(' \\n')", "u", "u|length", "e", "nil", "t", "no", "n", "f", "big", "l", "d", "mixed", "nested", "missing", "missing.x", "missing['x']", "d.zzz", "d.zzz.y",
    "1 + 2 * 3", "(1 + 2) * 3", "7 // 2", "-7 // 2", "7 % 3", "-7 % 3", "7 / 2", "2 ** 10", "2 ** -1", "2 ** 3 ** 2", "-2 ** 2", "1.5 + 1", "0.1 + 0.2", "1e3", "1e22", "1e-7", "123456789.0", "1e16", "1.0", "100000000000000000.0", "3.0 // 2", "-3.5 % 2",
    "'a' + 'b'", "'a' ~ 1 ~ none ~ true", "'ab' * 3", "3 * 'x'", "[1] + [2]", "[0] * 3", "1 ~ 2", "1 + 2 ~ 3", "'a' 'b'", "n + t", "true + 1", "n / 0", "'a' + 1", "nil + 1", "missing + 1", "l + 'x'", "'x' - 1",
    "1 < 2", "1 < 2 < 3", "3 > 2 > 2", "1 == 1.0", "true == 1", "'1' == 1", "'a' < 'b'", "'a' < 1", "nil == none", "missing == missing2", "l == [3,1,2]", "(1,2) == [1,2]", "d == {'a':1,'b':2,'C':[1,2]}", "1 != 2", "not 1", "not not 1", "not nil",
    "1 in l", "4 not in l", "'b' in d", "2 in d", "'ell' in s", "'' in 'abc'", "'x' in missing", "nil in mixed", "1 in 'a'", "1 in 5", "n and z", "n or z", "z or e or 'last'", "z and missing.x", "nil or missing", "not n == 7", "1 if t else 2", "1 if no else 2", "1 if no", "'a' if n > 5 and z == 0 else 'b'", "1 if no else 2 if t else 3",
    "l[0]", "l[-1]", "l[10]", "l[1:]", "l[:-1]", "l[::-1]", "l[::2]", "l[-2:]", "l[5:]", "l[1:2]", "l[2:0:-1]", "l[::-2]", "u[0]", "u[-1]", "u[::-1]", "u[2:8]", "u[100]", "s[2:7]", "s[:3]", "d['b']", "d.b", "d['C'][1]", "d.C.1", "people[0].name", "people[0]['age']", "people[-1].tags", "nested.a.b.c[2].d", "nested['a']['b']['c'][0]", "l['x']", "n[0]", "n.x", "l[1.5]", "d[none]",
    "(1, 2, 3)", "(1,)", "()", "[]", "{}", "{'a': 1, 2: 'b'}", "[1, [2, (3,)]]", "{'x': {'y': [1]}}", "['it\\'s', 'say \"x\"', 'both \\' \"']", "['\\n\\t\\\\']", "'\\u00e9\\x41\\n'", "[u]", "['\\x00\\x7f\\u200b']", "{'a': none, 'b': true}", "(1, 2)[0]", "[1,2,][1]", "{'a':1}.a", "{'a':1}['b']", "'abc'[1]", "\"x\".upper()",
    "s|trim", "s|trim|length", "'xxaxx'|trim('x')", "s|upper", "s|lower", "'hello wORLD it\\'s o-k (yes)'|title", "'hello WORLD'|capitalize", "'hello world'.title()", "'it\\'s'.title()", "'ß'.upper()", "u|upper", "u|lower", "'ǆ'|upper", "'İ'|lower", "'ΑΣ'|capitalize",
    "'aXbXc'|replace('X', '-')", "'aXbXc'|replace('X', '-', 1)", "'aaa'.replace('a', 'bb', 2)", "'abc'.replace('', '-')", "1|replace('1','2')", "n|string", "n|string|length", "nil|string", "l|string", "5|int", "'12'|int", "'x'|int", "'x'|int(9)", "'3.9'|int", "3.9|int", "true|int", "'ff'|int(0, 16)", "nil|int", "'1_000'|int", "' 42 '|int", "'2.5'|float", "'x'|float", "'x'|float(1.5)", "7|float", "'1e3'|float",
    "neg|abs", "-2.5|abs", "(-2.5)|abs", "2.7|round", "2.5|round", "3.5|round", "-2.5|round", "2.567|round(2)", "2.567|round(1, 'floor')", "2.1|round(0, 'ceil')", "7|round", "1234|round(-2)", "0.1|round(3)", "2.675|round(2)", "'x'|abs",
    "l|length", "d|length", "nil|length", "missing|length", "n|length", "l|count", "l|first", "l|last", "empty|first", "empty|last", "u|first", "u|last", "d|first", "missing|first",
    "l|join", "l|join(', ')", "names|join('-')", "people|join(', ', attribute='name')", "mixed|join('|')", "'abc'|join('.')", "d|join(',')", "empty|join(',')", "missing|join(',')", "nil|join(',')", "l|join(d=';')",
    "l|sort", "l|sort(reverse=true)", "names|sort", "names|sort(case_sensitive=true)", "people|sort(attribute='age')|map(attribute='name')|list", "people|sort(attribute='name', reverse=true)|map(attribute='name')|join(',')", "mixed|sort", "d|sort", "[[2,1],[1,5]]|sort", "names|unique|list", "names|unique(case_sensitive=true)|list", "['a','A','b']|unique|list", "people|unique(attribute='age')|map(attribute='name')|list",
    "l|reverse|list", "'abc'|reverse", "u|reverse", "l|max", "l|min", "names|max", "names|min", "empty|max", "people|max(attribute='age')", "l|sum", "[1.5, 2]|sum", "people|sum(attribute='age')", "empty|sum", "l|sum(start=10)", "['a']|sum",
    "d|dictsort", "d|dictsort(true)", "{'b':1,'a':2}|dictsort(by='value')", "{'b':1,'a':2}|dictsort(reverse=true)", "d|items|list", "d.items()|list", "d.keys()|list", "d.values()|list", "d.get('a')", "d.get('x')", "d.get('x', 5)", "missing|items|list", "d|list", "'abc'|list", "empty|list", "nil|list",
    "people|map(attribute='name')|list", "people|map(attribute='tags')|list", "people|map(attribute='tags', default='none')|list", "names|map('upper')|list", "names|map('replace', 'b', 'p')|list", "l|map('string')|join('+')", "[' a ', 'b ']|map('trim')|list", "people|map(attribute='tags.0')|list", "names|map('length')|sum", "[[1,2],[3]]|map('first')|list", "[[1,2],[3]]|map(attribute=0)|list", "l|map('nofilter')|list",
    "l|select('odd')|list", "l|select('gt', 1)|list", "l|reject('odd')|list", "mixed|select|list", "mixed|reject|list", "mixed|select('string')|list", "mixed|reject('none')|list", "people|selectattr('tags')|map(attribute='name')|list", "people|selectattr('age', 'equalto', 30)|map(attribute='name')|list", "people|rejectattr('tags', 'defined')|map(attribute='name')|list", "people|selectattr('age', '>', 26)|list|length", "people|selectattr('name', 'in', ['Ann', 'Cid'])|list|length", "people|rejectattr('age', 'eq', 30)|first", "people|selectattr('tags', 'defined')|list|length",
    "missing|default('x')", "e|default('x')", "e|default('x', true)", "nil|default('x')", "nil|default('x', boolean=true)", "missing|d(5)", "missing.y|default('x')", "z|default(3, true)", "missing|default",
    "html|e", "html|escape", "html|safe", "html", "'a\\nb\\n\\nc'|indent", "'a\\nb\\n\\nc'|indent(2, true)", "'a\\nb\\n\\nc'|indent(2, false, true)", "'a\\nb'|indent('> ')", "lines|indent(3, first=true)", "'x'|center(9)", "'xy'|center(9)", "w|wordcount", "'%s is %d, %.2f %%'|format('a', 3, 1.5)", "'%(x)s-%(y)03d'|format(x='a', y=7)", "'%s' % 'a'", "'%s %s' % (1, [2])", "'%5d|%-5d|%05d|%x' % (1, 2, 3, 255)", "'%s' % (1, 2)", "'%d' % 'a'", "'%q' % 1",
    "'the quick brown fox jumps'|truncate(12)", "'the quick brown fox jumps'|truncate(12, true)", "'short'|truncate(12)", "'the quick brown fox jumps'|truncate(12, end='~')", "d|attr('items')|string|length > 3", "d|attr('a')",
    "l|tojson", "d|tojson", "mixed|tojson", "u|tojson", "html|tojson", "s|tojson", "nil|tojson", "t|tojson", "f|tojson", "1e100|tojson", "people|tojson(indent=2)", "d|tojson(indent=4)", "empty|tojson(indent=2)", "{}|tojson(indent=2)", "u|tojson(ensure_ascii=true)", "d|tojson(sort_keys=true)", "d|tojson(separators=(',', ':'))", "tools|tojson", "tools[0]|tojson(indent=4)", "missing|tojson", "(1, 2)|tojson", "{1: 2, none: 3, true: 4}|tojson", "'\\x00\\x1f\\x7f\\u2028'|tojson", "'\\x7f🙂é'|tojson(ensure_ascii=true)", "range(3)|list|tojson",
    "missing is defined", "n is defined", "missing is undefined", "nil is none", "n is none", "nil is not none", "s is string", "n is string", "d is mapping", "l is mapping", "l is sequence", "s is sequence", "d is sequence", "n is sequence", "l is iterable", "n is iterable", "d is iterable", "n is number", "f is number", "t is number", "s is number", "n is integer", "t is integer", "f is float", "t is boolean", "n is boolean", "t is true", "n is true", "no is false", "z is false", "n is odd", "n is even", "n is divisibleby 7", "n is divisibleby(2)", "n is equalto 7", "n is eq 8", "n is ne 8", "n is gt 3", "n is lt(3)", "n is ge 7", "n is le 6", "n is in l", "3 is in(l)", "3 is not in l", "n is sameas n", "'abc' is lower", "'ABC' is upper", "'Abc' is lower", "range is callable", "n is callable", "'upper' is filter", "'xyz' is filter", "'odd' is test", "n is not string", "n is defined and n is not none", "not n is none", "nil is none or missing.x", "people[1].tags is defined", "people[0].tags is defined and people[0].tags", "l is iterable and l is not string and l is not mapping",
    "csv.split(',')", "w.split()", "w.split(' ')", "w.split(none, 1)", "'  a b  '.split(none, 1)", "w.rsplit(none, 1)", "csv.split(',', 1)", "csv.rsplit(',', 1)", "'a</think>b</think>c'.split('</think>')[-1]", "'a</think>b'.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n')", "'abc'.split('')", "''.split()", "''.split(',')", "lines.splitlines()", "lines.splitlines(true)", "csv.partition(',')", "csv.rpartition(',')", "'abc'.partition('x')", "s.startswith('  H')", "s.endswith('\\n')", "'abc'.startswith(('x','a'))", "'abc'.endswith('')", "'abc'.startswith(1)", "'-'.join(names)", "', '.join(['a'])", "'-'.join(l)", "'abcabc'.find('c')", "'abcabc'.rfind('c')", "'abc'.find('x')", "'abc'.index('c')", "'abc'.index('x')", "u.find('文')", "'abcabc'.count('b')", "'aaa'.count('aa')", "''.count('')", "'abc'.upper().lower()", "'aBc'.swapcase()", "'abc'.capitalize()", "'12'.isdigit()", "'1a'.isdigit()", "'ab'.isalpha()", "'a1'.isalnum()", "' '.isspace()", "'AB'.isupper()", "'ab'.islower()", "''.isdigit()", "'prefix-x'.removeprefix('prefix-')", "'x.txt'.removesuffix('.txt')", "'5'.zfill(3)", "'-5'.zfill(4)", "'a'.ljust(3) + '|'", "'a'.rjust(3, '.')", "'{} and {}'.format(1, 'b')", "'{0}{1}{0}'.format('a', 'b')", "'{x}={{y}}'.format(x=3)", "l.index(1)", "l.count(3)", "l.index(99)", "l.append(1)", "d.update({'x': 1})", "d.pop('a')", "s.nomethod()", "n()", "l()", "missing()", "d.copy()", "'x'.encode()" if False else "'x'.strip(1)",
    "range(5)|list", "range(2, 5)|list", "range(5, 0, -2)|list", "range(0)|list", "range(3)|length", "range(10)[2:4]|list", "range(1, 2, 0)", "range(200000)", "dict(a=1, b=2)", "dict({'x': 1}, y=2)", "namespace(a=1).a", "namespace(a=1).b", "namespace({'a': 5}, b=6).a", "raise_exception('no ' ~ n)", "unknownfn(1)", "strftime_now('%Y')|length", "-n", "+n", "-'a'", "--3", "- 3", "n.real" if False else "n.foo is defined", "(l|length) > 2 and (d|length) == 3", "l|length > 2", "'a' in 'abc' and 'd' not in 'abc'", "('a' if t else 'b') ~ 'c'", "[x, n]", "{'k': missing}", "(n > 3)|string", "d.items()|first", "l|map('abs')|sum", "true|tojson", "none ~ 'x'", "True ~ False ~ None", "l.0", "'a,b'.split(',')|join('+')|upper", "'x' * 0", "'x' * -1", "1_000 + 1", "loop is defined", "(1,2,3)|last", "'abc'|first|upper", "nested.a.b.c|length", "nested|tojson|length", "d.a + d.b", "people|map(attribute='age')|sum / people|length", "s|trim|replace('Hello', 'Bye')|upper", "names[1:]|first", "names[-1][0]", "not missing", "missing and 1", "missing or 1", "missing ~ 'x'", "missing is none", "l is eq [3,1,2]", "n == 7 and s is string or nil", "f|int", "f * 2", "f // 1", "10 % 3.5", "1/3", "2/1", "1e300*1e10", "-1e300*1e10", "7 // 0", "7 % 0", "2 ** 62", "9223372036854775807",
]

STATEMENTS = [
    "{% for x in ll recursive %}[{{ loop(x) if x is sequence else x }}]{{ loop.depth }}{{ loop.depth0 }}{% endfor %}", "{% for x in [{'n': 1, 'c': [{'n': 2, 'c': []}, {'n': 3}]}] recursive %}{{ x.n }}{% if x.c %}({{ loop(x.c) }}){% endif %}{{ ',' if not loop.last }}{% else %}none{% endfor %}", "{% for x in l %}{{ loop(l) }}{% endfor %}",
    "{% for x in [1, [2, [3]]] if x recursive %}{% set y = x %}{{ loop([y]) if y is number and loop.depth < 3 }}{{ y }}{% endfor %}{{ y }}", "{% macro m(a) %}{{ a }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, 3, b=4) }}{{ m() }}{{ m(a=1) }}", "{% macro m() %}{% macro q() %}{{ kwargs }}{% endmacro %}{{ q(z=1) }}{% endmacro %}{{ m() }}{{ m(2) }}",
    "{{ '%.2s|%5s|%-5s|%5.1s|%r' % ('añb', 'ñ', 'x', 'yz', 'q') }}", "{{ 'añ'.center(7, '*') }}{{ 'ab'.center(5) }}{{ 'abc'.center(2) }}",
    "{% if n > 5 %}big{% elif n > 3 %}mid{% else %}small{% endif %}", "{% if z %}a{% elif n %}b{% endif %}", "{% if missing %}a{% else %}b{% endif %}", "{% if n is defined and n %}x{% endif %}",
    "{% for x in l %}{{ x }},{% endfor %}", "{% for x in empty %}{{ x }}{% else %}none{% endfor %}", "{% for x in missing %}{{ x }}{% else %}none{% endfor %}", "{% for x in nil %}{% endfor %}", "{% for x in 5 %}{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}", "{% for k in d %}{{ k }}{% endfor %}", "{% for c in 'añ中' %}[{{ c }}]{% endfor %}", "{% for a, b in [[1,2],[3,4]] %}{{ a + b }} {% endfor %}", "{% for a, b in [[1,2,3]] %}{% endfor %}", "{% for (a, b) in [[1,2]] %}{{ a }}{{ b }}{% endfor %}",
    "{% for x in l %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }}/{{ loop.depth }} {% endfor %}",
    "{% for x in l %}{{ loop.previtem if loop.previtem is defined else '-' }}<{{ x }}>{{ loop.nextitem if loop.nextitem is defined else '-' }} {% endfor %}", "{% for x in l %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% for x in [1,1,2] %}{{ loop.changed(x) }}{% endfor %}",
    "{% for x in l if x > 1 %}{{ loop.index }}:{{ x }} {% endfor %}", "{% for x in l if x > 9 %}{{ x }}{% else %}no{% endfor %}", "{% for x in l %}{% for y in ll[1] %}{{ x }}{{ y }}{{ loop.depth }} {% endfor %}{{ loop.index }}{% endfor %}",
    "{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}", "{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}", "{% for x in l %}{% for y in l %}{% if y == 1 %}{% break %}{% endif %}{{ y }}{% endfor %}|{% endfor %}",
    "{% set x = 5 %}{{ x }}", "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set x = 1, 2 %}{{ x }}", "{% set x %}a{{ n }}b{% endset %}[{{ x }}]", "{% set x | upper %}abc{% endset %}{{ x }}", "{% set x | trim | upper %} a {% endset %}{{ x }}", "{% set a.b = 1 %}", "{% set d.x = 1 %}",
    "{% set x = 1 %}{% for i in l %}{% set x = x + 1 %}{{ x }}{% endfor %}{{ x }}", "{% set ns = namespace(x=1) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}", "{% if t %}{% set y = 3 %}{% endif %}{{ y }}", "{% set ns = namespace() %}{% set ns.found = false %}{% if not ns.found %}{% set ns.found = true %}{% endif %}{{ ns.found }}", "{% for i in l %}{{ q|default('none') }}{% set q = i %}{{ q }}{% endfor %}",
    "{% macro m(a, b=2) %}{{ a }}-{{ b }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(b=5, a=4) }} {{ m() }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}", "{% macro m() %}{{ n }}{{ later }}{% endmacro %}{% set later = 9 %}{{ m() }}", "{% macro fact(x) %}{% if x <= 1 %}1{% else %}{{ x * (fact(x - 1)|int) }}{% endif %}{% endmacro %}{{ fact(6) }}", "{% macro m(x) %}{{ caller(x) }}!{% endmacro %}{% call(y) m(3) %}got {{ y }}{% endcall %}", "{% macro m() %}<{{ caller() }}>{% endmacro %}{% call m() %}in{% endcall %}", "{% macro m(a, b=a) %}{{ b }}{% endmacro %}{{ m(4) }}", "{% macro m(x) -%}  {{ x }}  {%- endmacro %}[{{ m('y')|upper }}]", "{% macro m() %}{% set v = 1 %}{{ v }}{% endmacro %}{{ m() }}{{ v }}", "{{ m(1) }}{% macro m(a) %}{{ a }}{% endmacro %}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m.name }}",
    "{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}", "{% with a = 1 %}{% set c = a %}{{ c }}{% endwith %}{{ c }}", "{% with %}{% set c = 1 %}{{ c }}{% endwith %}", "{% filter upper %}abc {{ n }}{% endfilter %}", "{% filter replace('a', 'b')|upper %}aaa{% endfilter %}", "{% generation %}gen {{ n }}{% endgeneration %}",
    "{# comment #}a{# multi\nline #}b", "a\n{# c #}\nb", "a {#- c -#} b", "{% raw %}{{ x }}{% if %}{% endraw %}", "{%- raw -%}  {{ a }}  {%- endraw -%} x", "a {% raw %}\n b {% endraw %}\n c",
    "  {% if t %}\n  a\n  {% endif %}\nb", "x  {% if t %}\n  a\n  {% endif %}  \nb", "a\n\n  {%- if t %}\n b\n {%- endif %}\n\nc", "a {{- n -}} b", "a {{ n }}\nb", "a\n{{ n }}\n\nb\n", "{% if t -%}\n\n  a\n\n{%- endif -%}\n b", "   {%+ if t %}a{% endif %}", "{% if t +%}\nx{% endif %}", "\t {% set x = 1 %}\t\n{{ x }}", "a\r\nb\rc\n{% if t %}\r\nd{% endif %}", "line\n", "line\n\n", "\n", "", "{{ '}}' }}{{ '%}' }}", "{{ {'a': {'b': 1}}.a.b }}", "{{ [1,2]}}", "{{-1}}", "{{- 1}}", "{% set x = -1 %}{{ x }}", "{%if t%}a{%endif%}", "{%-if t-%} a {%-endif-%}", "  {# c #}\n  a", "a  {# c #}\nb", "{{ n }}{# x #}\n\n{{ n }}", "a{% if t %} {% endif %}b", "{% for x in l %}\n  {{ x }}\n{% endfor %}\nend", "{% for x in l -%}\n  {{ x }}\n{%- endfor %}\nend", "    {{ n }}\n    {% if t %}{{ n }}{% endif %}\n",
    "{% if %}{% endif %}", "{% if t %}", "{% endif %}", "{{ n", "{{ }}", "{% for x l %}{% endfor %}", "{% unknown %}", "{{ n | nofilter }}", "{{ n is notest }}", "{{ 1 + }}", "{{ (1 }}", "{{ [1 }}", "{{ 'abc }}", "{% set %}", "{# open", "{% break %}", "{% include 'x' %}", "{{ n ! }}", "{{ a b }}", "{% macro %}{% endmacro %}", "{% set x = 1 y %}", "{% for x in l %}{% endif %}", "{{ f(a=1, 2) }}", "{{ 5 is }}", "{{ d. }}", "{% else %}",
    "{{ s }}|{{ u }}", "{% for p in people %}{{ loop.index }}. {{ p.name }} ({{ p.age }}){{ ', ' if not loop.last else '.' }}{% endfor %}", "{%- for m in people %}{%- if m.tags is defined and m.tags %}{{ m.tags[0] }}{%- endif %}{%- endfor %}", "{% for x in range(3) %}{{ x }}{% endfor %}", "{% for x in l|sort %}{{ x }}{% endfor %}", "{% for x in (1,2) %}{{ x }}{% endfor %}", "{% for x in 1, 2 %}{{ x }}{% endfor %}", "{% set loop_messages = people[1:] %}{{ loop_messages|length }}", "{% for m in people[::-1] %}{% set i = (people|length - 1) - loop.index0 %}{{ i }}{{ m.name }}{% endfor %}", "{% for x in d|dictsort %}{{ x[0] }}{% endfor %}", "{% for k, v in d|items %}{{ k }}{% endfor %}", "{{ 1, 2 }}", "{{ l[0] if l else 'x' }}{{ 'y' }}", "{% set x = {'a': 1} %}{{ x.a }}", "{% set x = [] %}{% for i in l %}{% set x = x + [i] %}{% endfor %}{{ x }}", "{% set ns = namespace(x=[]) %}{% for i in l %}{% set ns.x = ns.x + [i * 2] %}{% endfor %}{{ ns.x }}", "{{ ns }}{% set ns = namespace(a=1) %}", "{% for i in l %}{{ loop }}{% break %}{% endfor %}" if False else "{% for i in l %}{{ loop.nothing is defined }}{% endfor %}",
]

CHATML = """{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n\\nYou may call functions. Signatures are inside <tools></tools>:\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools>\\n\\nReturn a json object inside <tool_call></tool_call>:\\n<tool_call>\\n{\\"name\\": <name>, \\"arguments\\": <object>}\\n</tool_call><|im_end|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(searching=true, last=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.searching and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.searching = false %}
        {%- set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- else %}
            {%- if '</think>' in content %}
                {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
        {%- endif %}
        {%- if loop.index0 > ns.last %}
            {%- if loop.last or (not loop.last and reasoning) %}
                {{- '<|im_start|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
            {%- else %}
                {{- '<|im_start|>' + message.role + '\\n' + content }}
            {%- endif %}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<tool_call>\\n{"name": "' }}
                {{- tool_call.name }}
                {{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}
                    {{- tool_call.arguments }}
                {%- else %}
                    {{- tool_call.arguments | tojson }}
                {%- endif %}
                {{- '}\\n</tool_call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' }}
        {{- content }}
        {{- '\\n</tool_response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""

HEADERS = """{{- bos_token }}
{%- if custom_tools is defined %}
    {%- set tools = custom_tools %}
{%- endif %}
{%- if not tools_in_user_message is defined %}
    {%- set tools_in_user_message = true %}
{%- endif %}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}
{%- if not tools is defined %}
    {%- set tools = none %}
{%- endif %}
{#- The first system message is taken out. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if builtin_tools is defined or tools is not none %}
    {{- "Environment: ipython\\n" }}
{%- endif %}
{%- if builtin_tools is defined %}
    {{- "Tools: " + builtin_tools | reject('equalto', 'code_interpreter') | join(", ") + "\\n\\n"}}
{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- if tools_in_user_message and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first_user_message = messages[0]['content']|trim %}
        {%- set messages = messages[1:] %}
    {%- else %}
        {{- raise_exception("Cannot put tools in the first user message when there is none!") }}
    {%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
    {%- for t in tools %}
        {{- t | tojson(indent=4) }}
        {{- "\\n\\n" }}
    {%- endfor %}
    {{- first_user_message + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("This model only supports single tool-calls at once!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

DEEPSEEK = ("{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=false, is_tool=false, is_output_first=true, system_prompt='', is_first_sp=true) %}"
            "{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first_sp %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first_sp = false %}{%- else %}"
            "{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}"
            "{%- set ns.is_tool = false -%}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and 'tool_calls' in message %}{%- set ns.is_tool = false -%}{%- for tool in message['tool_calls'] %}"
            "{%- if not ns.is_first %}{%- if message['content'] is none %}{{'<｜Assistant｜><｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '\\n' + '```json' + '\\n' + tool['function']['arguments']|tojson + '\\n' + '```' + '<｜tool▁call▁end｜>'}}"
            "{%- else %}{{'<｜Assistant｜>' + message['content'] + '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '<｜tool▁call▁end｜>'}}{%- endif %}{%- set ns.is_first = true -%}"
            "{%- else %}{{'\\n' + '<｜tool▁call▁begin｜>' + tool['type'] + '<｜tool▁sep｜>' + tool['function']['name'] + '<｜tool▁call▁end｜>'}}{%- endif %}{%- endfor %}{{'<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'}}{%- endif %}"
            "{%- if message['role'] == 'assistant' and 'tool_calls' not in message %}{%- if ns.is_tool %}{{'<｜tool▁outputs▁end｜>' + message['content'] + '<｜end▁of▁sentence｜>'}}{%- set ns.is_tool = false -%}{%- else %}{% set content = message['content'] %}"
            "{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{'<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.is_tool = true -%}"
            "{%- if ns.is_output_first %}{{'<｜tool▁outputs▁begin｜><｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}{%- set ns.is_output_first = false %}{%- else %}{{'\\n<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}{%- endif %}{%- endif %}{%- endfor -%}"
            "{% if ns.is_tool %}{{'<｜tool▁outputs▁end｜>'}}{% endif %}{% if add_generation_prompt and not ns.is_tool %}{{'<｜Assistant｜><think>\\n'}}{% endif %}")

STEP3 = """{% macro render_content(content) %}
 {% if content is string %}{{ content }}{% elif content is mapping %}{{ content['value'] if 'value' in content else content['text'] }}{% elif content is iterable %}{% for item in content %}{% if item.type == 'text' %}{{ item['value'] if 'value' in item else item['text'] }}{% elif item.type == 'image' %}<im_patch>{% endif %}{% endfor %}{% endif %}
 {% endmacro %}
{{ bos_token }}{%- set ns = namespace(system='') -%}
{%- for message in messages -%}
{%- if message.role == 'system' -%}{% set ns.system = ns.system + render_content(message.content) %}{%- endif -%}
{%- endfor -%}
{{ ns.system }}
{%- if tools %}
# Tools
<tools>
{%- for tool in tools %}

{{ tool | tojson }}
{%- endfor %}

</tools>
{% endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool_description' -%}{{ render_content(message.content) }}
{%- elif message.role == 'user' -%}{{ '<|BOT|>' + message.role + '\\n' + render_content(message.content) + '<|EOT|>' }}
{%- elif message.role == 'assistant' -%}{{ '<|BOT|>assistant\\n' }}{% generation %}{% if message.reasoning_content %}{{ '<think>\\n' + message.reasoning_content + '\\n</think>\\n' }}{% endif %}{{ render_content(message.content) }}
{%- if message.tool_calls is defined -%}{{ '<｜tool_calls_begin｜>' }}{%- for call in message.tool_calls -%}
{{ '<｜tool_call_begin｜>function<｜tool_sep｜><steptml:invoke name="' + call.function.name + '">' }}{%- for k, v in call.function.arguments.items() -%}{{ '<steptml:parameter name="' + k + '">' + v|string + '</steptml:parameter>' }}{%- endfor -%}{{ '</steptml:invoke><｜tool_call_end｜>' }}
{%- endfor -%}{{ '<｜tool_calls_end｜>' }}{%- endif -%}{% endgeneration %}{{ '<|EOT|>' }}
{%- elif message.role == 'tool' -%}{{ '<|BOT|>tool_response\\n' ~ message.content ~ '<|EOT|>' }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<|BOT|>assistant\\n<think>\\n' }}{%- endif -%}"""

INST = """{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}
{%- set ns.index = 0 %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, conversation roles must alternate user/assistant/user/assistant/...") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if tools is defined and tools and (message == user_messages[-1]) %}
            {{- "[AVAILABLE_TOOLS] [" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}
                {{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}
                        {{- '"' + key + '": "' + val + '"' }}
                    {%- else %}
                        {{- '"' + key + '": ' + val|tojson }}
                    {%- endif %}
                    {%- if not loop.last %}
                        {{- ", " }}
                    {%- endif %}
                {%- endfor %}
                {{- "}}" }}
                {%- if not loop.last %}
                    {{- ", " }}
                {%- else %}
                    {{- "]" }}
                {%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {%- if not tool_call.id is defined or tool_call.id|length != 9 %}
                {{- raise_exception("Tool call IDs should be alphanumeric strings with length 9!") }}
            {%- endif %}
            {{- ', "id": "' + tool_call.id + '"}' }}
            {{- ", " if not loop.last else "]" + eos_token }}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"]|trim + eos_token}}
    {%- elif message["role"] == "tool" %}
        {{- '[TOOL_RESULTS] {"content": ' + message.content|string + ', "call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception("Only user and assistant roles are supported!") }}
    {%- endif %}
{%- endfor %}
"""

TURNS = """{{ bos_token }}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '

' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '

' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set first_user_prefix = "" -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception("Conversation roles must alternate user/assistant/user/assistant/...") }}
    {%- endif -%}
    {%- if (message['role'] == 'assistant') -%}
        {%- set role = "model" -%}
    {%- else -%}
        {%- set role = message['role'] -%}
    {%- endif -%}
    {{ '<start_of_turn>' + role + '
' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- else -%}
        {{ raise_exception("Invalid content type") }}
    {%- endif -%}
    {{ '<end_of_turn>
' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{'<start_of_turn>model
'}}
{%- endif -%}
"""

CALL = {"id": "abcdefghi", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "Köln", "days": 3}}}
CONVERSATIONS = [
    [{"role": "user", "content": "Hello"}],
    [{"role": "system", "content": "Be brief.  "}, {"role": "user", "content": " Hi there \n"}],
    [{"role": "system", "content": "S"}, {"role": "user", "content": "Q1"}, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nA1"}, {"role": "user", "content": "Q2 <b> \"x\" 中"}],
    [{"role": "user", "content": "weather?"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": "{\"t\": 20}", "tool_call_id": "abcdefghi"}],
    [{"role": "user", "content": "weather?"}, {"role": "assistant", "content": None, "tool_calls": [CALL, CALL]}, {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, {"role": "assistant", "content": "done"}],
    [{"role": "user", "content": [{"type": "text", "text": " look "}, {"type": "image"}]}, {"role": "assistant", "content": "ok", "reasoning_content": "\nr\n"}],
    [{"role": "assistant", "content": "first"}], [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], [{"role": "tool_description", "content": "D"}, {"role": "user", "content": "x"}], [],
]
LONG = {"chatml": CHATML, "headers": HEADERS, "deepseek": DEEPSEEK, "step3": STEP3, "inst": INST, "turns": TURNS}


def run(env, template, context):
    case = {"template": template, "context": context}
    try:
        case["expected"] = env.from_string(template).render(**context)
    except Exception:  # whatever it is, it must be an error here too
        case["error"] = True
    return case


def cases():
    env = environment()
    for expression in EXPRESSIONS:
        yield {**run(env, "{{ " + expression + " }}", DATA), "context": None}
    for statement in STATEMENTS:
        yield {**run(env, statement, DATA), "context": None}
    for name, template in LONG.items():
        for messages in CONVERSATIONS:
            for extra in ({"add_generation_prompt": True}, {"add_generation_prompt": False, "tools": DATA["tools"]}, {"add_generation_prompt": True, "enable_thinking": False}):
                context = {"messages": messages, "bos_token": "<s>", "eos_token": "</s>", **extra}
                yield {**run(env, template, context), "template": name}


def random_cases(seed, count):
    """Expressions spliced from the pieces above, most of them still valid."""
    rng = random.Random(seed)
    env = environment()
    atoms = list(DATA) + ["1", "0", "-2", "2.5", "'ab'", "''", "[1, 2, 3]", "{'a': 1}", "none", "true", "missing", "(1, 'x')"]
    filters = ["upper", "lower", "trim", "length", "first", "last", "list", "join('-')", "sort", "reverse|list", "string", "tojson", "default('x')", "abs", "int", "float", "title", "unique|list", "sum", "max", "map('string')|list", "select|list", "capitalize", "round(1)", "dictsort", "replace('a', 'b')", "string|indent(2)"]
    tests = ["defined", "none", "string", "mapping", "sequence", "iterable", "number", "odd", "true", "boolean", "in l", "eq 1"]
    operators = ["+", "-", "*", "~", "==", "!=", "<", ">=", "and", "or", "in", "not in", "//", "%", "/"]

    def expression(depth):
        kind = rng.randrange(9) if depth else 0
        if kind < 2:
            return rng.choice(atoms)
        if kind == 2:
            return f"({expression(depth - 1)}) {rng.choice(operators)} ({expression(depth - 1)})"
        if kind < 5:
            return f"({expression(depth - 1)})|{rng.choice(filters)}"
        if kind == 5:
            return f"({expression(depth - 1)}) is {rng.choice(['', 'not '])}{rng.choice(tests)}"
        if kind == 6:
            return f"(({expression(depth - 1)})|string)[{rng.choice(['0', '-1', '1:', '::-1', ':2', expression(depth - 1)])}]"
        if kind == 7:
            return f"{expression(depth - 1)} if {expression(depth - 1)} else {expression(depth - 1)}"
        return f"[{expression(depth - 1)}, {expression(depth - 1)}]"

    for _ in range(count):
        yield {**run(env, "{{ " + expression(rng.randrange(1, 5)) + " }}", DATA), "context": None}


def main():
    found = list(random_cases(int(sys.argv[2]), int(sys.argv[3]))) if sys.argv[1:2] == ["--random"] else list(cases())
    text = json.dumps({"data": DATA, "long": LONG, "cases": found}, ensure_ascii=False, separators=(",", ":"))
    if sys.argv[1:2] == ["--random"]:
        print(text)
    else:
        OUT.write_text(text + "\n", encoding="utf-8")
        print(len(found), "cases,", sum("error" in c for c in found), "of them errors")


if __name__ == "__main__":
    main()
