#!/usr/bin/perl
# Does what its query says, step by step: see case.rs.
use strict;
my ($head, $out, $sent) = ('', '', 0);
sub put {
    my ($bytes) = @_;
    my $from = 0;
    while ($from < length $bytes) {
        my $put = syswrite(STDOUT, $bytes, length($bytes) - $from, $from);
        return unless defined $put;
        $from += $put;
    }
}
sub head {
    return '' if $sent++;
    return "$head\r\n";
}
$SIG{PIPE} = 'IGNORE';
for my $step (split /~/, $ENV{QUERY_STRING}) {
    my $kind = substr($step, 0, 1);
    (my $rest = substr($step, 1)) =~ s/%([0-9A-Fa-f]{2})/chr hex $1/ge;
    if ($kind eq 'S') { $head .= "Status: $rest Told\r\n" }
    elsif ($kind eq 'H') { $head .= "$rest\r\n" }
    elsif ($kind eq 'X') { $out .= $rest }
    elsif ($kind =~ /[TZG]/) {
        my ($from, $bytes) = split /\./, $rest;
        open my $data, '<:raw', "$kind.dat" or die;
        seek $data, $from, 0;
        read $data, my $read, $bytes;
        $out .= $read;
    }
    elsif ($kind eq 'D') {
        my ($from, $to) = split /\./, $rest;
        $out .= substr(($ENV{FINISH_REQUEST} // '') x 2, $from, $to - $from) if $ENV{FINISH_REQUEST};
    }
    elsif ($kind eq 'E') { put(head() . $out); $out = '' }
    elsif ($kind eq 'F') { put(head()) }
    elsif ($kind eq 'P') { select undef, undef, undef, $rest / 1000 }
    elsif ($kind eq 'R') {
        my $left = $rest eq '' ? $ENV{CONTENT_LENGTH} || 1e9 : $rest;
        while ($left > 0) {
            my $read = sysread STDIN, my $bytes, $left < 8192 ? $left : 8192;
            last unless $read;
            $left -= $read;
        }
    }
}
put(head());
