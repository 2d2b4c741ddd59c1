//! The libraries.

use super::*;

fn all_true(sources: &[&str]) {
    for source in sources {
        check(json!({}), source, json!(true));
    }
}

fn all_fail(sources: &[&str]) {
    for source in sources {
        if let Ok(program) = Program::compile(source, &Names::conditions()) {
            program.evaluate(&Scope::empty()).expect_err(source);
        }
    }
}

#[test]
fn texts() {
    all_true(&[
        "'tacocät'.charAt(5) == 'ä' && 'ab'.charAt(2) == ''",
        "'aäbä'.indexOf('ä') == 1 && 'aäbä'.lastIndexOf('ä') == 3 && 'aäbä'.lastIndexOf('ä', 2) == 1",
        "'aäb'.indexOf('x') == -1 && 'abab'.indexOf('a', 1) == 2",
        "'HeLLo'.lowerAscii() + 'x'.upperAscii() == 'helloX'",
        "'tacocat'.substring(4) == 'cat' && 'tacocat'.substring(0, 4) == 'taco'",
        "' x\\t'.trim() == 'x' && 'abc'.reverse() == 'cba'",
        "strings.quote('a\"b\\n') == '\"a\\\\\"b\\\\n\"'",
        "'a.b.c'.split('.') == ['a', 'b', 'c'] && 'a.b.c'.split('.', 2) == ['a', 'b.c'] && 'a'.split('.', 0) == []",
        "'aXbX'.replace('X', '-') == 'a-b-' && 'aXbX'.replace('X', '-', 1) == 'a-bX'",
        "['a', 'b'].join() == 'ab' && ['a', 'b'].join(', ') == 'a, b'",
        "'abc'.contains('b') && 'abc'.startsWith('ab') && 'abc'.endsWith('bc')",
        "'%s %d %.2f %e %b %o %x %X %%'.format(['a', 1, 1.5, 2.0, 5, 8, 255, 255]) == 'a 1 1.50 2.000000e+00 101 10 ff FF %'",
        "'%s'.format([{'b': [1, null], 'a': duration('90s')}]) == '{a: 90s, b: [1, null]}'",
        "'%x'.format(['hi']) == '6869' && '%d'.format([-3]) == '-3' && '%b'.format([-5]) == '-101'",
        "base64.encode(b'hello') == 'aGVsbG8=' && base64.decode('aGVsbG8') == b'hello'",
        "jsonpatch.escapeKey('a/b~c') == 'a~1b~0c'",
        "string(1e21) == '1e+21' && string(1.5) == '1.5' && string(100.0) == '100'",
    ]);
    all_fail(&[
        "'abc'.charAt(4)",
        "'abc'.substring(2, 1)",
        "'abc'.substring(-1)",
        "'%q'.format([1])",
        "'%d'.format(['a'])",
        "'%s %s'.format(['a'])",
        "'%.1001f'.format([1.0])",
        "base64.decode('?')",
        "string(b'\\xff')",
    ]);
}

#[test]
fn lists_and_sets() {
    all_true(&[
        "[3, 1, 2].sort() == [1, 2, 3] && ['b', 'a'].sort() == ['a', 'b'] && [].sort() == []",
        "[{'n': 2}, {'n': 1}].sortBy(x, x.n) == [{'n': 1}, {'n': 2}]",
        "[1, [2, [3]]].flatten() == [1, 2, [3]] && [1, [2, [3]]].flatten(2) == [1, 2, 3]",
        "[1, 2.0, 2, 'a', 'a'].distinct() == [1, 2, 'a'] && [1, 2, 3].reverse() == [3, 2, 1]",
        "[1, 2, 3, 4].slice(1, 3) == [2, 3] && lists.range(3) == [0, 1, 2]",
        "[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2 && [1].indexOf(5) == -1",
        "[1, 3].sum() == 4 && [].sum() == 0 && [duration('1m'), duration('1s')].sum() == duration('61s')",
        "[2, 5, 3].max() == 5 && ['b', 'a'].min() == 'a' && [1, 2, 2].isSorted() && ![2, 1].isSorted()",
        "sets.contains([1, 2], [2.0]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])",
    ]);
    all_fail(&[
        "[1, 'a'].sort()",
        "[{}].sort()",
        "[].max()",
        "[1, 2].slice(1, 3)",
        "[1].flatten(-1)",
        "lists.range(100000)",
        "['a', 'b'].sum()",
    ]);
}

#[test]
fn numbers() {
    all_true(&[
        "math.greatest(1, 2.5, 2) == 2.5 && math.least([3, 1, 2]) == 1",
        "math.ceil(1.2) == 2.0 && math.floor(-1.2) == -2.0 && math.round(-1.5) == -2.0 && math.trunc(1.9) == 1.0",
        "math.abs(-1) == 1 && math.sign(-2.5) == -1.0 && math.isNaN(0.0 / 0.0) && math.isInf(1.0 / 0.0)",
        "math.bitAnd(12, 10) == 8 && math.bitOr(12, 3) == 15 && math.bitXor(12, 10) == 6 && math.bitNot(0) == -1",
        "math.bitShiftLeft(1, 3) == 8 && math.bitShiftRight(8u, 2) == 2u && math.bitShiftLeft(1, 64) == 0",
        "math.sqrt(9.0) == 3.0",
    ]);
    all_fail(&[
        "math.abs(-9223372036854775807 - 1)",
        "math.bitShiftLeft(1, -1)",
        "math.greatest([])",
        "math.least('a')",
    ]);
}

#[test]
fn addresses() {
    all_true(&[
        "ip('192.168.0.1').family() == 4 && ip('::1').isLoopback() && isIP('::1') && !isIP('1.2.3') && !isIP('::ffff:1.2.3.4')",
        "ip('2001:db8::1') == ip('2001:DB8::1') && ip.isCanonical('2001:db8::1') && !ip.isCanonical('2001:DB8::1')",
        "ip('0.0.0.0').isUnspecified() && ip('224.0.0.1').isLinkLocalMulticast() && ip('fe80::1').isLinkLocalUnicast()",
        "ip('8.8.8.8').isGlobalUnicast() && !ip('127.0.0.1').isGlobalUnicast() && string(ip('::1')) == '::1'",
        "cidr('192.168.0.0/24').containsIP('192.168.0.1') && !cidr('192.168.0.0/24').containsIP(ip('192.168.1.1'))",
        "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && !cidr('10.1.0.0/16').containsCIDR(cidr('10.0.0.0/8'))",
        "cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8') && cidr('10.1.2.3/8').ip() == ip('10.1.2.3')",
        "cidr('::1/128').prefixLength() == 128 && cidr('::/0').containsIP('::5') && string(cidr('::/0')) == '::/0'",
        "!isCIDR('10.0.0.0/33') && !isCIDR('10.0.0.0/08') && !isCIDR('10.0.0.0') && isCIDR('0.0.0.0/0')",
        "url('https://user@example.com:80/a%20b?x=1&x=2&y=%26#f').getHost() == 'example.com:80'",
        "url('https://example.com:80/').getHostname() == 'example.com' && url('https://[::1]:80/').getHostname() == '::1'",
        "url('https://[::1]:80/').getPort() == '80' && url('https://example.com').getPort() == ''",
        "url('https://example.com/a%20b').getEscapedPath() == '/a%20b' && url('/p').getScheme() == ''",
        "url('https://e.com/?x=1&x=2&y=%26').getQuery() == {'x': ['1', '2'], 'y': ['&']}",
        "isURL('/path') && isURL('http://a') && !isURL('a b') && !isURL('../x') && !isURL('https://a:b/') && !isURL('https://a/%zz')",
        "type(ip('::1')) == net.IP && type(url('/a')) == kubernetes.URL",
    ]);
    all_fail(&["ip('1.2.3')", "cidr('x')", "url('a b')", "cidr('10.0.0.0/8').containsIP('x')"]);
}

#[test]
fn quantities_and_versions() {
    all_true(&[
        "quantity('1.5Gi') == quantity('1536Mi') && quantity('1000m') == quantity('1') && quantity('2e3') == quantity('2k')",
        "quantity('200M').compareTo(quantity('0.2G')) == 0 && quantity('50k').isLessThan(quantity('50Ki'))",
        "quantity('50Mi').add(quantity('10Mi')) == quantity('60Mi') && quantity('5').sub(2).asInteger() == 3",
        "quantity('500m').asApproximateFloat() == 0.5 && !quantity('500m').isInteger() && quantity('-1').sign() == -1",
        "isQuantity('1E') && isQuantity('100n') && !isQuantity('1.5 Gi') && !isQuantity('') && !isQuantity('10Mb')",
        "string(quantity('1500m')) == '1500m' && string(quantity('2k')) == '2000'",
        "semver('1.2.3').major() == 1 && semver('1.2.3-rc.1').isLessThan(semver('1.2.3'))",
        "semver('1.10.0').isGreaterThan(semver('1.9.0')) && semver('v1.2', true) == semver('1.2.0')",
        "isSemver('1.0.0') && !isSemver('v1.0.0') && isSemver('v01.0', true) && semver('1.0.0+a') == semver('1.0.0+b')",
        "!format.dns1123Label().validate('my-name').hasValue() && format.dns1123Label().validate('My_Name').hasValue()",
        "format.named('uuid').value() == format.uuid() && !format.named('nothing').hasValue()",
        "!format.uuid().validate('123e4567-e89b-12d3-a456-426614174000').hasValue()",
        "!format.qualifiedName().validate('example.com/name').hasValue() && format.labelValue().validate('-a').hasValue()",
        "!format.date().validate('2026-11-02').hasValue() && format.datetime().validate('2026-11-02').hasValue()",
        "!format.dns1123LabelPrefix().validate('web-').hasValue() && format.dns1035Label().validate('1a').hasValue()",
    ]);
    all_fail(&["quantity('x')", "quantity('500m').asInteger()", "semver('1')", "quantity('1e60')"]);
}

#[test]
fn patterns() {
    let data = json!({"s": "abc 123 def", "p": "[0-9]+", "many": (0..60).map(|n| format!("x{n}")).collect::<Vec<_>>()});
    check(data.clone(), "event.data.s.find('[0-9]+') + event.data.s.find(event.data.p)", json!("123123"));
    check(data.clone(), "event.data.s.findAll('[a-z]+') == ['abc', 'def'] && 'a'.findAll('b', -1) == []", json!(true));
    check(data.clone(), "event.data.s.findAll('[a-z]+', 1)", json!(["abc"]));
    // One pattern is paid for once, many are too much.
    check(data.clone(), "event.data.many.all(x, !x.matches(event.data.p + 'y'))", json!(true));
    fails(data, "event.data.many.all(x, x.matches(x))", "costs more than");
}
