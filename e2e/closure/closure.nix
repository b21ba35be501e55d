# A closure of real store paths that needs no nixpkgs: only a shell, coreutils, awk, and bash with its libraries as files
# to pack. See the script `closure` beside this file. What `variant` goes into is one variant's alone, the rest is shared.
#
#   root ── app ── shell ── libraries      (shared; bash and what it is linked with)
#    │       └── data                      (the variant's own, `mib` MiB: the large NAR)
#    └── part-1 … part-n ── assets         (each part refers to the one before it)
{ variant, mib, parts, bash, libraries }:
let
  build = name: inputs: script:
    derivation (inputs // {
      inherit name;
      system = builtins.currentSystem;
      builder = "/bin/sh";
      args = [ "-euc" "${script}\necho \"built $name\"" ];
      PATH = "/usr/bin:/bin";
      LC_ALL = "C";
    });
  file = path: builtins.path { inherit path; name = baseNameOf path; };

  libraries' = build "libraries" { files = map file libraries; } ''
    mkdir -p $out/lib
    for file in $files; do
      target=$out/lib/$(basename $file | cut -c34-)
      cp $file $target
      chmod 555 $target
    done
  '';

  shell = build "shell" { bash = file bash; libraries = libraries'; } ''
    mkdir -p $out/bin
    cp $bash $out/bin/bash
    chmod 555 $out/bin/bash
    ln -s bash $out/bin/sh
    ln -s $libraries/lib $out/lib
  '';

  # Names and kinds of files that a careless packer trips over.
  assets = build "assets" { } ''
    mkdir -p $out/share/empty-folder "$out/share/with space" $out/share/deep/er/and/deeper
    : > $out/share/empty-file
    echo "Grüße" > "$out/share/with space/ünïcode.txt"
    printf 'no newline at the end' > $out/share/deep/er/and/deeper/file
    ln -s ../nowhere $out/share/dangling
    ln -s deep/er $out/share/folder-link
    awk 'BEGIN { for (i = 0; i < 200000; i++) print "a line that packs well", i % 100 }' > $out/share/lines
  '';

  # Half of it can be compressed away, as with a program.
  data = build "data-${variant}" { inherit variant mib; } ''
    mkdir -p $out/share
    seed=$(printf '%s' "$variant" | cksum | cut -d' ' -f1)
    awk -v seed=$seed -v lines=$((mib * 16384)) 'BEGIN {
      x = seed % 2147483646 + 1
      for (i = 0; i < lines; i++) {
        line = ""
        for (j = 0; j < 9; j++) { x = (x * 16807) % 2147483647; line = line sprintf("%07x", x % 268435456) }
        print line
      }
    }' > $out/share/data
  '';

  app = build "app-${variant}" { inherit shell data variant; } ''
    mkdir -p $out/bin
    printf '#!%s/bin/bash\n# installed in %s\nread -r line < %s/share/data\necho "%s: $line"\n' \
      $shell $out $data "$variant" > $out/bin/app
    chmod 555 $out/bin/app
    ln -s $out/bin/app $out/bin/again
  '';

  part = n: build "part-${toString n}-${variant}" {
    inherit assets variant n;
    before = if n == 1 then assets else part (n - 1);
  } ''
    mkdir -p $out/lib
    echo "$before" > $out/lib/before
    ln -s $assets/share $out/assets
    awk -v n=$n 'BEGIN { for (i = 0; i < 2000 * n; i++) print n * i }' > $out/lib/numbers
  '';
in
build "root-${variant}" {
  inherit app variant;
  partPaths = builtins.genList (n: part (n + 1)) parts;
} ''
  mkdir -p $out/parts
  ln -s $app/bin $out/bin
  for path in $partPaths; do ln -s $path $out/parts/; done
  echo "$variant" > $out/variant
''
